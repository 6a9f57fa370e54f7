"""AWS's post on batch inference with TensorFlow Serving, as it was written, on SDK 2: its first job.

Only the names that it leaves open are filled in. Run in the folder of model.tar.gz; argument: the bucket with
jpeg-images/.
"""

import sys

import os
import sagemaker
from sagemaker.tensorflow.serving import Model

sagemaker_session = sagemaker.Session()
role = sagemaker.get_execution_role()
bucket = sys.argv[1]
prefix = 'sagemaker/high-throughput-tfs-batch-transform'
s3_path = 's3://{}/{}'.format(bucket, prefix)

model_data = sagemaker_session.upload_data('model.tar.gz',
                                           bucket,
                                           os.path.join(prefix, 'model'))

tensorflow_serving_model = Model(model_data=model_data,
                                 role=role,
                                 framework_version='1.13',
                                 sagemaker_session=sagemaker_session)

output_path = f's3://{bucket}/output'
tensorflow_serving_transformer = tensorflow_serving_model.transformer(
                                     instance_count=2,
                                     instance_type='ml.p3.2xlarge',
                                     max_concurrent_transforms=64,
                                     max_payload=1,
                                     output_path=output_path)

input_path = f's3://{bucket}/jpeg-images/'
tensorflow_serving_transformer.transform(input_path, content_type='application/x-image')
