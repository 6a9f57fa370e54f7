"""The wing that takes a repository to SageMaker: `aws` is the only module that imports boto3."""
