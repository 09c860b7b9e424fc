"""Keys and tokens as an identity provider makes them, by PyJWT: the service reads them with other code.

tokens.py key FILE ALGORITHM KID: writes a new private key, and prints its public half as JSON (a JWK).
tokens.py sign FILE ALGORITHM KID: reads claims, one JSON object a line, and prints a token for each.
"""

import json
import sys

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

MAKERS = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def main() -> None:
    command, file, algorithm, kid = sys.argv[1:]
    if command == "key":
        private = MAKERS[algorithm]()
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(file, "wb") as out:
            out.write(pem)
        public = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True)
        print(json.dumps({**public, "kid": kid, "use": "sig", "alg": algorithm}))
    else:
        with open(file, "rb") as text:
            key = text.read()
        for line in sys.stdin:
            print(jwt.encode(json.loads(line), key, algorithm=algorithm, headers={"kid": kid} if kid else None))


main()
