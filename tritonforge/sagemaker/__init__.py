"""SageMaker on AWS: `client` is the only package that imports boto3; `plans` and planning modules do no I/O."""
