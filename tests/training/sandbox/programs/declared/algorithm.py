"""A small algorithm, declared."""

from tritonforge.training.algorithm import Algorithm, Channel, HyperParameter, Metric

algorithm = Algorithm(
    "lines",
    description="Counts lines.",
    hyperparameters=[HyperParameter("epochs", "Integer", "Passes.", 5, minimum=1, maximum=10)],
    channels=[Channel("training", "Text.", required=True, content_types=("text/csv",), input_modes=("File", "Pipe"))],
    metrics=[Metric("loss", r"loss=([0-9.]+)")],
    training_instance_types=("ml.m5.large",),
    transform_instance_types=("ml.m5.large",),
    realtime_instance_types=("ml.m5.large",),
    content_types=("text/csv",),
    response_types=("application/json",),
)
