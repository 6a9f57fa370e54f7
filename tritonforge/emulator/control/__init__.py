"""SageMaker's control plane: models, endpoints, transform jobs and their tags.

`training` has training jobs, `registry` algorithms, model packages and what validates them.

The rooms that only compute (`arns`, `descriptions`, `documents`, `failures`, `paging`, `states`, `tagging`, `traffic`)
do no I/O; `plane` answers requests, `deployments` runs what takes time, `ledger` keeps what must outlive the process.
"""

from __future__ import annotations
