"""A sidecar of Dapr, as far as pluggable components see it: it finds services by reflection, as daprd does, and calls them.

dapr_sidecar.py DIRECTORY

DIRECTORY: of the sockets. It reads commands from standard input, a list in JSON a line, and prints the answer to each in a line of JSON: what it
is, or the status' `code` and `message`.

["services", SOCKET]                                      names of the services, by v1alpha
["init", SOCKET, SERVICE, INSTANCE, PROPERTIES]           "done"
["operations", SOCKET, INSTANCE]                          their names
["ping", SOCKET, SERVICE, INSTANCE]                       "done"
["invoke", SOCKET, INSTANCE, OPERATION, DATA, METADATA]   "done"; a number as DATA for as many bytes
["read", SOCKET, INSTANCE, FILE, REFUSE]                  "done"; each message is written to FILE in a line of JSON. REFUSE: none; third (numbers
                                                          that 3 divides); first (the first time of each); all; hold (no answer); twice
                                                          (each is answered twice, and one that is not there as well)
["answers", INSTANCE]                                     "done": answers what was held, the last one first
["end", INSTANCE]                                         "done": ends the stream
"""

import json
import os
import queue
import sys
import threading

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

REFLECTION = "grpc.reflection.v1alpha"
COMPONENTS = "dapr.proto.components.v1"
directory = sys.argv[1]
pool = descriptor_pool.DescriptorPool()
channels, streams = {}, {}


def define_reflection():
    """The part of reflection's definitions that is asked for."""
    file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package=REFLECTION, syntax="proto3")
    kinds = {"text": 9, "bytes": 12}

    def message(name, *fields):
        of = file.message_type.add(name=name)
        for field, number, kind, is_list in fields:
            made = of.field.add(name=field, number=number, label=3 if is_list else 1, type=kinds.get(kind, 11))
            if kind not in kinds:
                made.type_name = f".{REFLECTION}.{kind}"

    message("Request", ("file_containing_symbol", 4, "text", False), ("list_services", 7, "text", False))
    message("Service", ("name", 1, "text", False))
    message("Services", ("service", 1, "Service", True))
    message("Files", ("file_descriptor_proto", 1, "bytes", True))
    message("Response", ("files", 4, "Files", False), ("services", 6, "Services", False))
    pool.Add(file)


def made(name, **fields):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))(**fields)


def channel(socket):
    if socket not in channels:
        # As Go's gRPC does it; Python's has the path, which no authority may be.
        options = [("grpc.default_authority", "localhost")]
        channels[socket] = grpc.insecure_channel(f"unix:{os.path.join(directory, socket)}", options)
    return channels[socket]


def reflect(socket, **request):
    path = f"/{REFLECTION}.ServerReflection/ServerReflectionInfo"
    ask = channel(socket).stream_stream(path, lambda of: of.SerializeToString(), lambda of: of)
    said = made(f"{REFLECTION}.Response")
    said.ParseFromString(next(ask(iter([made(f"{REFLECTION}.Request", **request)]))))
    return said


def learn(socket):
    """Takes the definitions of components, once."""
    try:
        pool.FindMessageTypeByName(f"{COMPONENTS}.PingRequest")
    except KeyError:
        for file in reflect(socket, file_containing_symbol=f"{COMPONENTS}.InputBinding").files.file_descriptor_proto:
            pool.AddSerializedFile(file)


def parsed(name):
    def read(data):
        of = made(f"{COMPONENTS}.{name}")
        of.ParseFromString(data)
        return of

    return read


def call(socket, service, method, instance, request, answer):
    ask = channel(socket).unary_unary(f"/{COMPONENTS}.{service}/{method}", lambda of: of.SerializeToString(), parsed(answer))
    return ask(request, metadata=[("x-component-instance", instance)], timeout=60)


class Stream:
    def __init__(self, socket, instance, file, refuse):
        self.file, self.refuse, self.seen, self.held = file, refuse, set(), []
        self.answers = queue.Queue()
        path = f"/{COMPONENTS}.InputBinding/Read"
        ask = channel(socket).stream_stream(path, lambda of: of.SerializeToString(), parsed("ReadResponse"))
        self.call = ask(iter(self.answers.get, None), metadata=[("x-component-instance", instance)])
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            for message in self.call:
                self.take(message)
        except grpc.RpcError as error:
            self.note(code=error.code().name, message=error.details())

    def note(self, **fields):
        with open(self.file, "a", encoding="utf-8") as out:
            out.write(json.dumps(fields) + "\n")
            out.flush()

    def take(self, message):
        body = message.data.decode()
        is_first = body not in self.seen
        self.seen.add(body)
        refused = self.refuse == "all" or self.refuse == "third" and int(body) % 3 == 0 or self.refuse == "first" and is_first
        fields = {"refused": refused, "metadata": dict(message.metadata), "id": message.message_id}
        self.note(body=body if len(body) < 100 else len(body), **fields)
        if self.refuse == "hold":
            self.held.append(message.message_id)
            return
        self.answer(message.message_id, refused)
        if self.refuse == "twice":
            self.answer(message.message_id, True)
            self.answer("none", True)

    def answer(self, number, refused):
        answer = made(f"{COMPONENTS}.ReadRequest", message_id=number)
        if refused:
            answer.response_error.message = "not this one"
        self.answers.put(answer)


def metadata(properties):
    return made(f"{COMPONENTS}.MetadataRequest", properties=properties)


def ask(what, *rest):
    if what == "services":
        return sorted(of.name for of in reflect(rest[0], list_services="*").services.service)
    if what in ("answers", "end"):
        stream = streams[rest[0]]
        if what == "end":
            stream.call.cancel()
        while what == "answers" and stream.held:
            stream.answer(stream.held.pop(), False)
        return "done"
    learn(rest[0])
    if what == "init":
        socket, service, instance, properties = rest
        call(socket, service, "Init", instance, made(f"{COMPONENTS}.{service}InitRequest", metadata=metadata(properties)), f"{service}InitResponse")
        return "done"
    if what == "operations":
        socket, instance = rest
        said = call(socket, "OutputBinding", "ListOperations", instance, made(f"{COMPONENTS}.ListOperationsRequest"), "ListOperationsResponse")
        return list(said.operations)
    if what == "ping":
        socket, service, instance = rest
        call(socket, service, "Ping", instance, made(f"{COMPONENTS}.PingRequest"), "PingResponse")
        return "done"
    if what == "invoke":
        socket, instance, operation, data, given = rest
        data = ("x" * data if isinstance(data, int) else data).encode()
        call(socket, "OutputBinding", "Invoke", instance, made(f"{COMPONENTS}.InvokeRequest", data=data, operation=operation, metadata=given), "InvokeResponse")
        return "done"
    socket, instance, file, refuse = rest
    streams[instance] = Stream(socket, instance, file, refuse)
    return "done"


define_reflection()
for line in sys.stdin:
    try:
        said = ask(*json.loads(line))
    except grpc.RpcError as error:
        said = {"code": error.code().name, "message": error.details()}
    print(json.dumps(said), flush=True)
