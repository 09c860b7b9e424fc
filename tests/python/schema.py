"""Holds `forebay config schema` against a JSON-schema validator: schema.py SCHEMA DOCUMENT

SCHEMA is the file that it was printed to, DOCUMENT is docs/CONFIGURATION.md, whose examples are all configurations.
"""

import json
import sys
import tomllib

from jsonschema import Draft202012Validator

SINK = '[[sink]]\nname = "a"\nfilters = "#"\ntopic = "t"\n'

GOOD = [
    "",
    '[service]\nshards = 4\n[mqtt]\npacket_bytes_max = 2048\nkeep_alive_max = "60s"\n',
    '[control]\nbind = "off"\n',
    '[[listener]]\nbind = "[::1]:1883"\n',
    SINK + 'headers = { "a.b" = "${topic}" }\ncompression = "lz4"\n',
]

# One mistake in each, and the path at which it is.
WRONG = [
    ("[service]\nshard = 4\n", "service"),
    ("[service]\nshards = 1025\n", "service/shards"),
    ('[service]\npin = "yes"\n', "service/pin"),
    ("[mqtt]\nconnect_timeout = 10\n", "mqtt/connect_timeout"),
    ('[mqtt]\npacket_bytes_max = "1 MiB"\n', "mqtt/packet_bytes_max"),
    ("[mqtt]\npacket_bytes_max = 1\n", "mqtt/packet_bytes_max"),
    ('[control]\nbind = "localhost:80"\n', "control/bind"),
    ('[[listener]]\ntransport = "tcp"\n', "listener/0"),
    ('[kafka]\nbootstrap = "a:1"\n', "kafka/bootstrap"),
    ('[kafka.embedded]\nbootstrap = "a:1"\n', "kafka"),
    ("[kafka.main]\nbootstrap = []\n", "kafka/main/bootstrap"),
    ('[[sink]]\nname = "a"\nfilters = "#"\n', "sink/0"),
    (SINK + 'acknowledge = "sometimes"\n', "sink/0/acknowledge"),
    (SINK + "headers = { a = 1 }\n", "sink/0/headers/a"),
    ("[unheard]\nof = true\n", ""),
]


def main(schema_path, document_path):
    with open(schema_path) as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    with open(document_path) as file:
        examples = [part.split("```")[0] for part in file.read().split("```toml\n")[1:]]
    assert examples, "the document has no examples"
    for text in GOOD + examples:
        errors = [error.message for error in validator.iter_errors(tomllib.loads(text))]
        assert not errors, f"{text}\n{errors}"
    for text, path in WRONG:
        found = ["/".join(map(str, error.absolute_path)) for error in validator.iter_errors(tomllib.loads(text))]
        assert found and set(found) == {path}, f"{text}\n{found}"
    print(f"{len(GOOD) + len(examples)} taken, {len(WRONG)} refused")


if __name__ == "__main__":
    main(*sys.argv[1:])
