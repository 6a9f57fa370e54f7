"""What AWS has is seen, and a plan is carried out there; an edge, the boto3 clients are those of `aws.session`.

`observe` only reads. `apply` sends the requests of a `Plan` in order; stopped at any point, the next plan has what is
left. `check` holds all requests against AWS's own service model and its documented limits before the first call.
"""

from __future__ import annotations

from tritonforge.sagemaker.endpoints.apply.observation import observe
from tritonforge.sagemaker.endpoints.apply.roles import role_arn
from tritonforge.sagemaker.endpoints.apply.waiting import settle
from tritonforge.sagemaker.endpoints.local_sources import Material, read
from tritonforge.sagemaker.endpoints.preflight import judge
from tritonforge.sagemaker.plans.checking import check
from tritonforge.sagemaker.plans.executor import apply
from tritonforge.sagemaker.plans.progress import Progress, Silent

__all__ = ["Material", "Progress", "Silent", "apply", "check", "judge", "observe", "read", "role_arn", "settle"]
