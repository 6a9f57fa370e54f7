"""What AWS has is seen, and a plan is carried out there; an edge, the boto3 clients are those of `aws.session`.

`observe` only reads. `apply` sends the requests of a `Plan` in order; stopped at any point, the next plan has what is
left. `check` holds all requests against AWS's own service model and its documented limits before the first call.
"""

from __future__ import annotations

from tritonforge.sagemaker.applying.checking import check
from tritonforge.sagemaker.applying.execution import apply
from tritonforge.sagemaker.applying.judgement import judge
from tritonforge.sagemaker.applying.materials import Material, read
from tritonforge.sagemaker.applying.observation import observe
from tritonforge.sagemaker.applying.progress import Progress, Silent
from tritonforge.sagemaker.applying.roles import role_arn
from tritonforge.sagemaker.applying.waiting import settle

__all__ = ["Material", "Progress", "Silent", "apply", "check", "judge", "observe", "read", "role_arn", "settle"]
