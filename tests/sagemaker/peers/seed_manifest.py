"""AWS's post on training with data sets that Ground Truth labelled, as it was written, on SDK 2.

Only the names that it leaves open are filled in. Arguments: the image, the role, the S3 prefix with output.manifest, a file for the answer.
"""

import json
import pathlib
import sys

import sagemaker
import sagemaker.estimator
import sagemaker.session

training_image, role, prefix, answer = sys.argv[1:]
sess = sagemaker.Session()
s3_output_location = f"{prefix}/model"
s3_train_data = s3_validation_data = f"{prefix}/output.manifest"

od_model = sagemaker.estimator.Estimator(training_image,
                                         role,
                                         train_instance_count=1,
                                         train_instance_type='ml.p3.2xlarge',
                                         train_volume_size = 50,
                                         train_max_run = 360000,
                                         input_mode = 'Pipe',
                                         output_path=s3_output_location,
                                         sagemaker_session=sess)

train_data = sagemaker.session.s3_input(s3_train_data, distribution='FullyReplicated', content_type='image/jpeg', s3_data_type='AugmentedManifestFile', attribute_names=['source-ref', 'sthakur-groundtruth-demo'])

validation_data = sagemaker.session.s3_input(s3_validation_data, distribution='FullyReplicated', content_type='image/jpeg', s3_data_type='AugmentedManifestFile', attribute_names=['source-ref', 'sthakur-groundtruth-demo'])

data_channels = {'train': train_data, 'validation': validation_data}
od_model.fit(inputs=data_channels, logs=True)

job = sess.describe_training_job(od_model.latest_training_job.name)
pathlib.Path(answer).write_text(json.dumps([job["TrainingJobStatus"], od_model.model_data]))
