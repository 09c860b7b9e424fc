"""Asks Dapr's gRPC API by Dapr's SDK.

dapr_client.py HTTP GRPC COMMANDS

HTTP, GRPC: the ports of the API. COMMANDS: a list, in JSON, of ["invoke", NAME, OPERATION, DATA, METADATA], with a number as DATA for as many bytes, ["metadata"], and ["raw", PATH] for a
method with an empty message. It prints the answer to each in a line of JSON: what it is, or the status' `code` and `message`.
"""

import json
import os
import sys

os.environ["DAPR_HTTP_PORT"], os.environ["DAPR_GRPC_PORT"] = sys.argv[1:3]

import grpc
from dapr.clients import DaprClient

channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[2]}")


def ask(client, what, *rest):
    if what == "invoke":
        name, operation, data, metadata = rest
        client.invoke_binding(name, operation, "x" * data if isinstance(data, int) else data, metadata)
        return "done"
    if what == "metadata":
        said = client.get_metadata()
        components = [[of.name, of.type, of.version, list(of.capabilities)] for of in said.registered_components]
        return {"id": said.application_id, "components": components}
    return channel.unary_unary(rest[0])(b"").hex()


with DaprClient() as client:
    for command in json.loads(sys.argv[3]):
        try:
            said = ask(client, *command)
        except grpc.RpcError as error:
            said = {"code": error.code().name, "message": error.details()}
        print(json.dumps(said), flush=True)
