"""What is in deploy/, tried as far as this machine allows: the systemd unit, the seccomp profile, the Debian package, the chart.
X73: the unit's user, its restrictions and its system calls.

Run by `scripts/test deploy`; FOREBAY_BINARY names the program (default: target/debug/forebay). A tool that is missing fails its test.
"""

import ctypes
import gzip
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("FOREBAY_BINARY", ROOT / "target/debug/forebay"))
UNIT = ROOT / "deploy/systemd/forebay.service"
SECCOMP = ROOT / "deploy/container/seccomp.json"
CHART = ROOT / "deploy/helm/forebay"
HELM = shutil.which("helm") or Path(os.environ.get("FOREBAY_CACHE", ROOT / ".cache")) / "go/bin/helm"
VERSIONS = ("1.29", "1.31")
# How the service says that its sandbox is on.
FULL = r'INFO.*files="full" calls="full"'


def output(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def system_calls():
    """Numbers of system calls by name, from the kernel's header."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").read_text()
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header)}


def expand(group):
    """Names of the system calls in a group of systemd's."""
    names = set()
    for line in output("systemd-analyze", "syscall-filter", group).splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            names |= expand(name)
        elif name and not name.startswith("#"):
            names.add(name)
    return names


def unit_calls():
    """What SystemCallFilter= of the unit allows, by systemd's rules: later lines add to and take from earlier ones."""
    allowed = set()
    for value in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.M):
        words = value.lstrip("~").split()
        names = set().union(*(expand(word) if word.startswith("@") else {word} for word in words))
        allowed = allowed - names if value.startswith("~") else allowed | names
    return allowed


def seccomp_calls():
    """What the container's profile allows, for a process that makes no namespaces."""
    profile = json.loads(SECCOMP.read_text())
    allowed = [rule["names"] for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"]
    return set().union(*allowed)


def confine(allowed):
    """Allows this process, and what it executes, these system calls only: others give EPERM (clone3: ENOSYS)."""
    numbers = sorted(number for name, number in system_calls().items() if name in allowed)
    jump, load, ret = 0x15, 0x20, 0x06
    code = [(load, 0, 0, 4), (jump, 1, 0, 0xC000003E), (ret, 0, 0, 0), (load, 0, 0, 0)]
    for number in numbers:
        code += [(jump, 0, 1, number), (ret, 0, 0, 0x7FFF0000)]
    code += [(jump, 0, 1, system_calls()["clone3"]), (ret, 0, 0, 0x00050000 | 38), (ret, 0, 0, 0x00050000 | 1)]
    program = b"".join(struct.pack("HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(program)

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    described = Program(len(code), ctypes.addressof(buffer))
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert libc.prctl(22, 2, ctypes.byref(described), 0, 0) == 0, os.strerror(ctypes.get_errno())


class Service:
    """The program with a spool and the embedded log on free ports, ended with SIGTERM."""

    def __init__(self, folder, allowed=None, environment=None, owner=None):
        """`owner`: it runs as a user without rights, and that is the owner of its configuration."""
        self.folder = Path(folder)
        config = self.folder / "forebay.toml"
        config.write_text(
            f'[service]\nshards = 1\npin = false\ndata_dir = "{folder}/data"\n[control]\nbind = "127.0.0.1:0"\n'
            '[[listener]]\nbind = "127.0.0.1:0"\n[embedded]\nbind = "127.0.0.1:0"\n[spool]\nbytes_max = "128MiB"\n'
            # What is there only while the file names none is not written along with another one.
            '[[sink]]\nname = "all"\nfilters = "#"\ntopic = "t"\n'
        )
        user, program = {}, BINARY
        if owner is not None:
            # The checkout may lie where no other user may look.
            program = shutil.copy(BINARY, self.folder / "forebay")
            # As the package's postinst leaves them.
            user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "root", "nogroup")
            self.folder.chmod(0o770)
            shutil.chown(config, owner, "nogroup")
            config.chmod(0o640)
        self.log = self.folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, "run", "--config", config],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                preexec_fn=(lambda: confine(allowed)) if allowed else None,
                **user,
            )
        deadline = time.monotonic() + 60
        while not self.said("control listening on"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the service did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def said(self, words):
        found = re.search(words + r".*?(127\.0\.0\.1:\d+)", self.log.read_text())
        return found and found[1]

    def publish(self):
        """A QoS 1 message by hand, answered."""
        host, port = self.said("mqtt listening on").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as device:
            device.sendall(bytes.fromhex("101300044d5154540402003c0007") + b"deploys")
            assert device.recv(4) == b"\x20\x02\x00\x00"
            device.sendall(b"\x32\x08\x00\x01t\x00\x01abc")
            assert device.recv(4) == b"\x40\x02\x00\x01"

    def persist(self):
        """A sink by the API, written to the file: the answer."""
        url = f"http://{self.said('control listening on')}/api/v1/sinks/kept?persist=true"
        token = (self.folder / "data/control-token").read_text().strip()
        request = urllib.request.Request(url, method="PUT", data=b'{"filters": ["kept/#"], "topic": "kept"}')
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def sandbox(self):
        """The log line with which it says how far it is restricted; it comes after the addresses."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if found := re.search(r"^.*files=.*calls=.*$", re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text()), re.M):
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"nothing about the sandbox:\n{self.log.read_text()}")

    def stop(self):
        self.process.terminate()
        return self.process.wait(60)


class Systemd(unittest.TestCase):
    def test_the_unit_is_valid(self):
        with tempfile.TemporaryDirectory() as folder:
            # Only the program's place differs: it is not installed here.
            text = UNIT.read_text().replace("/usr/bin/forebay", str(BINARY)).replace("man:forebay(1)", "https://forebay.example")
            unit = Path(folder) / "forebay.service"
            unit.write_text(text)
            verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
            self.assertEqual((verified.returncode, verified.stdout + verified.stderr), (0, ""))

    def test_the_sandbox_is_tight(self):
        said = output("systemd-analyze", "security", "--offline=true", "--threshold=20", UNIT)
        self.assertIn("OK", said.splitlines()[-1])

    def test_the_service_works_within_the_units_system_calls(self):
        self.assertIn("io_uring_enter", unit_calls())
        self.assertNotIn("mount", unit_calls())
        with tempfile.TemporaryDirectory() as folder:
            service = Service(folder, unit_calls())
            service.publish()
            self.assertRegex(service.sandbox(), FULL, "finding F3")
            self.assertEqual(service.stop(), 0, service.log.read_text())

    @unittest.skipUnless(os.getuid() == 0, "another user's files need root")
    def test_the_service_may_write_what_the_package_gives_it(self):
        # Not below TMPDIR, which may be its owner's alone.
        self.assertIn("ReadWritePaths=-/etc/forebay\n", UNIT.read_text())
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            service = Service(folder, unit_calls(), owner="nobody")
            status, said = service.persist()
            self.assertEqual(status, 201, said)
            self.assertIn("kept/#", (Path(folder) / "forebay.toml").read_text())
            self.assertEqual(service.stop(), 0, service.log.read_text())
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            service = Service(folder, owner="root")
            status, said = service.persist()
            self.assertEqual(status, 409, said)
            self.assertIn("must own the file", said)
            self.assertEqual(service.stop(), 0, service.log.read_text())

    def test_systemd_hears_that_it_is_ready_and_alive(self):
        with tempfile.TemporaryDirectory() as folder:
            address = f"{folder}/notify"
            notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            notify.bind(address)
            notify.settimeout(60)
            service = Service(folder, environment={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
            heard = []
            while heard.count("WATCHDOG=1") < 3 or "READY=1" not in heard:
                heard += notify.recv(4096).decode().split("\n")
            self.assertEqual(service.stop(), 0)
            notify.settimeout(0.1)
            try:
                while True:
                    heard += notify.recv(4096).decode().split("\n")
            except TimeoutError:
                pass
            self.assertIn("STOPPING=1", heard)


class Container(unittest.TestCase):
    def test_the_service_works_within_the_seccomp_profile(self):
        with tempfile.TemporaryDirectory() as folder:
            service = Service(folder, seccomp_calls())
            service.publish()
            self.assertRegex(service.sandbox(), FULL, "finding F3")
            control = service.said("control listening on")
            health = subprocess.run([BINARY, "health", "--control", control], preexec_fn=lambda: confine(seccomp_calls()))
            self.assertEqual(health.returncode, 0)
            self.assertEqual(service.stop(), 0, service.log.read_text())

    def test_finding_f3_a_sandbox_that_is_off_is_a_warning(self):
        """One of its two halves is forbidden: the log says which, and does not say that it is on."""
        landlock = {name for name in seccomp_calls() if not name.startswith("landlock")}
        for allowed, said in (
            (landlock, r'WARN.*is not restricted.*files="unavailable" calls="full"'),
            (seccomp_calls() - {"seccomp"}, r'WARN.*is not restricted.*files="full" calls="unavailable: '),
        ):
            with tempfile.TemporaryDirectory() as folder:
                service = Service(folder, allowed)
                self.assertRegex(service.sandbox(), said)
                self.assertNotIn("given up", service.log.read_text())
                self.assertEqual(service.stop(), 0)

    def test_without_io_uring_the_service_says_so_and_works(self):
        blocked = {name for name in seccomp_calls() if not name.startswith("io_uring")}
        with tempfile.TemporaryDirectory() as folder:
            service = Service(folder, blocked)
            service.publish()
            self.assertRegex(service.sandbox(), FULL)
            self.assertRegex(service.log.read_text(), "WARN.*io_uring is not available.*Shards use epoll.*seccomp")
            self.assertEqual(service.stop(), 0, service.log.read_text())
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(AssertionError, "io_uring is not available"):
            Service(folder, blocked, {"FOREBAY_SERVICE_IO": "ring"})

    def test_the_profile_takes_what_a_service_never_needs(self):
        never = {"mount", "ptrace", "bpf", "unshare", "setns", "kexec_load", "init_module", "process_vm_readv", "userfaultfd"}
        self.assertEqual(never & seccomp_calls(), set())

    def test_the_dockerfile_is_clean(self):
        linted = subprocess.run([Path(sys.executable).with_name("hadolint"), ROOT / "deploy/container/Dockerfile"], capture_output=True, text=True)
        self.assertEqual((linted.returncode, linted.stdout), (0, ""))

    def test_the_configurations_are_valid(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
        for file in ["deploy/forebay.toml", "deploy/container/forebay.toml"]:
            subprocess.run([BINARY, "check", "--offline", ROOT / file], check=True, stdout=subprocess.DEVNULL, env=environment)


class Debian(unittest.TestCase):
    def test_the_package_holds_what_it_should(self):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "FOREBAY_PACKAGE_DIR": folder}
            output(ROOT / "scripts/package", "deb", "--binary", BINARY, env=environment)
            package = next(Path(folder).glob("forebay_*.deb"))
            self.assertIn("Package: forebay", output("dpkg-deb", "--info", package))
            root = Path(folder) / "installed"
            output("dpkg-deb", "-x", package, root)
            for file in [
                "usr/lib/systemd/system/forebay.service",
                "etc/forebay/forebay.toml",
                "etc/default/forebay",
                "usr/share/bash-completion/completions/forebay",
                "usr/share/zsh/vendor-completions/_forebay",
                "usr/share/fish/vendor_completions.d/forebay.fish",
                "usr/share/doc/forebay/copyright",
            ]:
                self.assertTrue((root / file).is_file(), file)
            page = gzip.decompress((root / "usr/share/man/man1/forebay-check.1.gz").read_bytes()).decode()
            self.assertIn("offline", page)
            self.assertIn("forebay 0.", output(root / "usr/bin/forebay", "--version"))
            self.assertTrue((Path(folder) / "forebay.debug").is_file())
            self.assertLess((root / "usr/bin/forebay").stat().st_size, BINARY.stat().st_size)
            self.install(package, Path(folder) / "host")

    def install(self, package, host):
        """dpkg itself unpacks it into an empty host; its scripts, which want a whole system, are left out."""
        for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"]:
            (host / folder).mkdir(parents=True)
        (host / "var/lib/dpkg/status").touch()
        unpacked = subprocess.run(
            ["dpkg", f"--root={host}", "--force-not-root,depends,script-chrootless", "--force-bad-path", "--unpack", package],
            capture_output=True, text=True,
        )
        self.assertEqual(unpacked.returncode, 0, unpacked.stderr)
        self.assertIn("forebay", (host / "var/lib/dpkg/status").read_text())
        self.assertTrue((host / "usr/bin/forebay").is_file())

    def test_finding_f14_lintian_finds_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "FOREBAY_PACKAGE_DIR": folder}
            output(ROOT / "scripts/package", "deb", "--binary", BINARY, env=environment)
            said = subprocess.run(
                ["lintian", "--allow-root", "--fail-on", "error,warning", next(Path(folder).glob("forebay_*.deb"))],
                capture_output=True, text=True,
            )
            self.assertEqual((said.returncode, said.stdout), (0, ""), said.stderr)

    def test_its_scripts_are_shell(self):
        for name in ["postinst", "prerm", "postrm"]:
            output("sh", "-n", ROOT / "deploy/debian" / name)


class Chart(unittest.TestCase):
    """Rendered by helm with the values of the chart and with others, each object held to the schema of Kubernetes."""

    OTHERS = {
        "tokensSecret": "forebay-tokens", "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}, "dashboard": {"enabled": True},
        "service": {"type": "LoadBalancer", "annotations": {"a/b": "c"}, "loadBalancerSourceRanges": ["10.0.0.0/8"]},
        "networkPolicy": {"clientsFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "metricsFrom": []},
        "persistence": {"storageClass": "fast"}, "replicas": 3, "shards": 4,
        "imagePullSecrets": [{"name": "registry"}], "seccompProfile": {"type": "Unconfined", "localhostProfile": None},
        "env": [{"name": "FOREBAY_VAR_SITE", "value": "north"}], "podAnnotations": {"a": "b"}, "nodeSelector": {"disk": "nvme"},
        "envFrom": [{"secretRef": {"name": "more"}}], "extraVolumes": [{"name": "letters", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "letters", "mountPath": "/letters"}],
        "tolerations": [{"key": "iot", "operator": "Exists"}], "affinity": {"nodeAffinity": {}}, "podDisruptionBudget": {"enabled": False},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    }  # fmt: skip

    # Finding F11: TLS, passwords, an ACL, SASL and TLS to Kafka, and a second listener.
    SECURE = {
        "config": {
            "listener": [
                {
                    "bind": "0.0.0.0:8883", "transport": "tls", "auth": "devices", "connections_max": 100000000,
                    "tls": {"cert_file": "/etc/forebay-secrets/mqtt-tls/tls.crt", "key_file": "/etc/forebay-secrets/mqtt-tls/tls.key"},
                },
                {"bind": "0.0.0.0:8083", "transport": "ws", "auth": "devices"},
            ],
            "auth": {"devices": {"acl_file": "/etc/forebay/acl", "limits": {"messages_s": 100}}},
            "kafka": {
                "main": {
                    "bootstrap": ["kafka-1.example:9093"],
                    "tls": {"ca_file": "/etc/forebay-secrets/kafka-ca/ca.crt"},
                    "sasl": {"mechanism": "SCRAM-SHA-512", "username": "forebay", "password_file": "/etc/forebay-secrets/own/kafka-password"},
                }
            },
            "spool": {"bytes_max": "256MiB", "segment_bytes": "16MiB", "spool_share": 1},
        },
        "files": {"acl": "user meter\ntopic write plant/#\n"},
        "secretFiles": {"passwords": "", "kafka-password": "secret"},
        "secrets": ["mqtt-tls", "kafka-ca"],
        "service": {"ports": [{"name": "mqtts", "port": 8883}, {"name": "websocket", "port": 80, "targetPort": 8083}]},
    }  # fmt: skip

    # Three instances of one broker, which has no sink and no disk.
    INSTANCES = {
        "replicas": 3, "instances": {"enabled": True},
        "config": {"broker": {"route": [{"filters": ["place/#"], "topic": "mqtt-places"}]}, "spool": None, "sink": None},
    }  # fmt: skip

    def values(self, folder, values):
        """As a file; YAML takes JSON."""
        file = Path(folder) / "values.yaml"
        file.write_text(json.dumps(values))
        return ["--values", file]

    def render(self, values):
        """The objects by kind; the pod's own ConfigMap, Secret and Service come first."""
        with tempfile.TemporaryDirectory() as folder:
            text = output(HELM, "template", "edge", CHART, "--kube-version", VERSIONS[-1], *self.values(folder, values))
        objects = {}
        for each in sorted(yaml.safe_load_all(text), key=lambda each: len(each["metadata"]["name"])):
            objects.setdefault(each["kind"], []).append(each)
        return objects

    def pod(self, objects):
        return objects["StatefulSet"][0]["spec"]["template"]["spec"]

    def files(self, objects, others):
        """All files of the pod, by path: `others` are those of Secrets that the chart does not make."""
        held = {
            "configMap": {each["metadata"]["name"]: each["data"] for each in objects["ConfigMap"]},
            "secret": {each["metadata"]["name"]: each["stringData"] for each in objects.get("Secret", [])} | others,
        }
        pod = self.pod(objects)
        volumes = {}
        for volume in pod["volumes"]:
            for kind, field in (("configMap", "name"), ("secret", "secretName")):
                if kind in volume:
                    volumes[volume["name"]] = held[kind][volume[kind][field]]
        mounts = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] in volumes]
        return {f"{mount['mountPath']}/{name}": text for mount in mounts for name, text in volumes[mount["name"]].items()}

    def environment(self, objects):
        """Of the pod, without this machine's own variables for the service."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
        fields = {"metadata.name": "edge-forebay-0", "status.podIP": "10.1.2.3"}
        for each in self.pod(objects)["containers"][0]["env"]:
            value = each["value"] if "value" in each else fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
            # Kubernetes expands variables that come before.
            own[each["name"]] = re.sub(r"\$\((\w+)\)", lambda name: own.get(name[1], name[0]), value)
        return own

    def lay_out(self, folder, objects, others):
        """The pod's files below a folder, and its variables with the paths there."""
        for path, text in self.files(objects, others).items():
            file = Path(folder + path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(re.sub(r"(/etc/forebay|/var/lib/forebay)", folder + r"\1", text))
            file.chmod(0o600)
        environment = self.environment(objects)
        return {name: value if not value.startswith(("/etc/", "/var/")) else folder + value for name, value in environment.items()}

    def test_helm_finds_nothing_wrong(self):
        with tempfile.TemporaryDirectory() as folder:
            for values in ({}, self.OTHERS, self.SECURE, self.INSTANCES):
                said = subprocess.run([HELM, "lint", "--strict", CHART, *self.values(folder, values)], capture_output=True, text=True)
                self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_finding_f11_wrong_values_are_refused(self):
        for values, said in (
            ({"servcie": {}}, "servcie"),
            ({"service": {"port": 1883}}, "port"),
            ({"service": {"ports": [{"name": "mqtt", "port": 8884}]}}, "no listener of config has port 8884"),
            ({"service": {"type": "Loadbalancer"}}, "type"),
            ({"replicas": "3"}, "replicas"),
            ({"shards": 0}, "shards"),
            ({"config": {"listeners": []}}, "listeners"),
            ({"config": {"sink": [{"name": "a"}]}}, "filters"),
            ({"files": {"forebay.toml": ""}}, "files"),
            ({"secrets": ["own"]}, "secrets"),
            ({"instances": {"enabled": True}}, "config has no broker"),
            (self.INSTANCES | {"terminationGracePeriodSeconds": 44}, "must be 45 or more"),
        ):
            with tempfile.TemporaryDirectory() as folder:
                command = [HELM, "template", "edge", CHART, "--kube-version", VERSIONS[-1], *self.values(folder, values)]
                refused = subprocess.run(command, capture_output=True, text=True)
            self.assertNotEqual(refused.returncode, 0, values)
            self.assertIn(said, refused.stderr)

    def test_every_object_is_one_that_kubernetes_takes(self):
        always = ["ConfigMap", "NetworkPolicy", "Secret", "Service", "Service", "StatefulSet"]
        for values, more in (
            ({}, ["PodDisruptionBudget"]),
            (self.SECURE, ["PodDisruptionBudget"]),
            (self.INSTANCES, ["PodDisruptionBudget"]),
            (self.OTHERS, ["ConfigMap", "PrometheusRule", "ServiceMonitor"]),
        ):
            objects = self.render(values)
            self.assertEqual(sorted(kind for kind, all in objects.items() for _ in all), sorted(always + more))
            for kind, all in objects.items():
                # The Prometheus operator's own kinds are not in Kubernetes.
                for each in all if kind not in ("ServiceMonitor", "PrometheusRule") else []:
                    for version in VERSIONS:
                        kubernetes_validate.validate(each, version, strict=True)
        pods = objects["StatefulSet"][0]
        pods["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pods, VERSIONS[0], strict=True)

    def test_finding_f11_its_configuration_is_one_that_the_service_takes(self):
        """With the variables of the pod. The defaults ask devices for passwords, and are reached in the cluster alone."""
        text = '[[listener]]\nbind = "0.0.0.0:1883"\nopen = true\n[[sink]]\nname = "a"\nfilters = "#"\ntopic = "t"\n'
        shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", (ROOT / "docs/DEPLOY.md").read_text(), re.S)[1])
        # The hash that the page leaves out.
        shown["secretFiles"]["passwords"] = ""
        for values in ({}, self.OTHERS, self.SECURE, self.INSTANCES, shown, {"config": text}):
            objects = self.render(values)
            config = objects["ConfigMap"][0]["data"]["forebay.toml"]
            with tempfile.TemporaryDirectory() as folder:
                environment = self.lay_out(folder, objects, {"mqtt-tls": {}, "kafka-ca": {}, "forebay-tokens": {}})
                checked = subprocess.run([BINARY, "check", "--offline"], capture_output=True, text=True, env=environment)
            self.assertEqual(checked.returncode, 0, config + checked.stdout + checked.stderr)
            # Only the text above is open to all.
            self.assertEqual("warning" in checked.stdout, config == text, checked.stdout)
        self.assertEqual(config, text)
        objects = self.render({})
        self.assertNotIn("open", objects["ConfigMap"][0]["data"]["forebay.toml"])
        self.assertEqual(objects["Service"][0]["spec"]["type"], "ClusterIP")
        self.assertEqual(self.environment(objects)["FOREBAY_SERVICE_SHARDS"], "1")
        self.assertEqual(self.environment(self.render(self.OTHERS))["FOREBAY_SERVICE_SHARDS"], "4")

    def test_finding_f11_tls_passwords_acl_sasl_and_a_second_listener_from_values_alone(self):
        """The pod's files are laid out here, and the service runs with them: a device logs in over TLS and publishes what it may."""
        with tempfile.TemporaryDirectory() as folder:
            tls = Path(folder) / "tls"
            tls.mkdir()
            output("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                   "subjectAltName=DNS:localhost", "-keyout", tls / "tls.key", "-out", tls / "tls.crt")  # fmt: skip
            output(BINARY, "passwd", tls / "passwords", "meter", input="pass\n")
            values = json.loads(json.dumps(self.SECURE))
            values["secretFiles"]["passwords"] = (tls / "passwords").read_text()
            objects = self.render(values)
            crt = (tls / "tls.crt").read_text()
            others = {"mqtt-tls": {"tls.crt": crt, "tls.key": (tls / "tls.key").read_text()}, "kafka-ca": {"ca.crt": crt}}
            environment = self.lay_out(folder, objects, others)
            pod = self.pod(objects)["containers"][0]
            self.assertEqual({(each["name"], each["containerPort"]) for each in pod["ports"]}, {("mqtts", 8883), ("websocket", 8083), ("control", 8080)})
            service = [(each["name"], each["port"], each["targetPort"]) for each in objects["Service"][0]["spec"]["ports"]]
            self.assertEqual(service, [("mqtts", 8883, "mqtts"), ("websocket", 80, "websocket")])
            # Ports that are free, and no log of Kafka's that is not there.
            environment |= {"FOREBAY_LISTENER_0_BIND": "127.0.0.1:0", "FOREBAY_LISTENER_1_BIND": "127.0.0.1:0",
                            "FOREBAY_CONTROL_BIND": "127.0.0.1:0", "FOREBAY_LOG_FORMAT": "text"}  # fmt: skip
            log = Path(folder) / "log"
            with log.open("wb") as out:
                service = subprocess.Popen([BINARY, *pod["args"]], stdout=out, stderr=subprocess.STDOUT, env=environment)
            try:
                deadline = time.monotonic() + 60
                while not re.search(r"control listening on", log.read_text()):
                    self.assertTrue(service.poll() is None and time.monotonic() < deadline, log.read_text())
                    time.sleep(0.05)
                ports = [int(port) for port in re.findall(r"mqtt listening on.*?127\.0\.0\.1:(\d+)", log.read_text())]
                self.assertEqual(len(ports), 2, log.read_text())
                context = ssl.create_default_context(cafile=tls / "tls.crt")
                for password, answer in ((b"wrong", 4), (b"pass", 0)):
                    plain = socket.create_connection(("127.0.0.1", ports[0]), timeout=30)
                    with context.wrap_socket(plain, server_hostname="localhost") as device:
                        body = b"\x00\x04MQTT\x04\xc2\x00\x00\x00\x01d\x00\x05meter" + struct.pack(">H", len(password)) + password
                        device.sendall(bytes([0x10, len(body)]) + body)
                        self.assertEqual(device.recv(4), bytes([0x20, 2, 0, answer]), log.read_text())
                        if answer == 0:
                            # The disk answers for Kafka, which is not there; what the list does not grant ends the connection.
                            device.sendall(b"\x32\x0c\x00\x07plant/1\x00\x01x")
                            self.assertEqual(device.recv(4), b"\x40\x02\x00\x01")
                            device.sendall(b"\x32\x0a\x00\x05other\x00\x02x")
                            self.assertEqual(device.recv(4), b"")
            finally:
                service.terminate()
                self.assertEqual(service.wait(60), 0, log.read_text())

    def test_pods_are_instances_of_one_broker(self):
        """Each by its own name, at its own address, by a port that the other pods alone reach; with TLS by the name that a certificate can have."""
        objects = self.render(self.INSTANCES)
        environment, container = self.environment(objects), self.pod(objects)["containers"][0]
        own = {name: value for name, value in environment.items() if name.startswith("FOREBAY_BROKER_")}
        link = {"FOREBAY_BROKER_LINK_BIND": "0.0.0.0:1885", "FOREBAY_BROKER_LINK_ADDRESS": "10.1.2.3:1885"}
        self.assertEqual(own, {"FOREBAY_BROKER_NAME": "edge-forebay-0"} | link)
        self.assertIn({"name": "link", "containerPort": 1885}, container["ports"])
        self.assertIn({"name": "link", "port": 1885, "targetPort": "link"}, objects["Service"][1]["spec"]["ports"])
        self.assertNotIn("link", [each["name"] for each in objects["Service"][0]["spec"]["ports"]])
        rule = next(each for each in objects["NetworkPolicy"][0]["spec"]["ingress"] if each["ports"] == [{"port": "link"}])
        self.assertEqual(rule["from"], [{"podSelector": objects["NetworkPolicy"][0]["spec"]["podSelector"]}])
        self.assertEqual(objects["PodDisruptionBudget"][0]["spec"]["maxUnavailable"], 1)
        secured = json.loads(json.dumps(self.INSTANCES))
        files = {"cert_file": "/etc/forebay-secrets/link/tls.crt", "key_file": "/etc/forebay-secrets/link/tls.key", "ca_file": "/etc/forebay-secrets/link/ca.crt"}
        secured["config"]["broker"]["link"], secured["secrets"] = files, ["link"]
        address = self.environment(self.render(secured))["FOREBAY_BROKER_LINK_ADDRESS"]
        self.assertEqual(address, "edge-forebay-0.edge-forebay-headless.default.svc:1885")
        self.assertNotIn("FOREBAY_BROKER_NAME", self.environment(self.render({})))

    def test_finding_f11_what_watches_it_finds_it(self):
        """The alerts ask for job="forebay", which is what the ServiceMonitor makes of a label; rules and dashboard are those of deploy/."""
        objects = self.render(self.OTHERS)
        monitor = objects["ServiceMonitor"][0]["spec"]
        watched = [each for each in objects["Service"] if monitor["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()]
        self.assertEqual([each["metadata"]["name"] for each in watched], ["edge-forebay-headless"])
        rules = (ROOT / "deploy/prometheus/alerts.yml").read_text()
        jobs = set(re.findall(r'job="([^"]+)"', rules))
        self.assertEqual({watched[0]["metadata"]["labels"][monitor["jobLabel"]]}, jobs)
        self.assertIn(monitor["endpoints"][0]["port"], [each["name"] for each in watched[0]["spec"]["ports"]])
        self.assertEqual(objects["PrometheusRule"][0]["spec"], yaml.safe_load(rules))
        board = json.loads(objects["ConfigMap"][1]["data"]["forebay.json"])
        self.assertEqual(board, json.loads((ROOT / "deploy/grafana/forebay.json").read_text()))
        ingress = objects["NetworkPolicy"][0]["spec"]["ingress"]
        self.assertEqual(ingress, [{"ports": [{"port": "mqtt"}], "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}])


if __name__ == "__main__":
    if not BINARY.exists():
        sys.exit(f"{BINARY} is missing: cargo build, or FOREBAY_BINARY")
    unittest.main()
