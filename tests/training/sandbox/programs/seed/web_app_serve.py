# Import modules
import json
import re
from flask import Flask
from flask import request
app = Flask(__name__)

# Create a path for health checks
@app.route("/ping")
def endpoint_ping():
    return ""

# Create a path for inference
@app.route("/invocations", methods=["POST"])
def endpoint_invocations():

    # Read the input
    input_str = request.get_data().decode("utf8")

    # Add your inference code here.
    #
    #
    #
    #
    #
    # Add your inference code here.

    # Return a response with a prediction
    response = {"prediction":"a","text":input_str}
    return json.dumps(response)
