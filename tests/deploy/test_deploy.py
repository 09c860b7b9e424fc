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

    def test_without_io_uring_the_service_says_so(self):
        blocked = {name for name in seccomp_calls() if not name.startswith("io_uring")}
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(AssertionError, "seccomp"):
            Service(folder, blocked)

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

    def test_its_scripts_are_shell(self):
        for name in ["postinst", "prerm", "postrm"]:
            output("sh", "-n", ROOT / "deploy/debian" / name)


class Chart(unittest.TestCase):
    """Rendered by helm with the values of the chart and with others, each object held to the schema of Kubernetes."""

    OTHERS = {
        "tokensSecret": "forebay-tokens", "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "service": {"type": "ClusterIP", "annotations": {"a/b": "c"}}, "persistence": {"storageClass": "fast"}, "replicas": 3,
        "imagePullSecrets": [{"name": "registry"}], "seccompProfile": {"type": "Unconfined", "localhostProfile": None},
        "env": [{"name": "FOREBAY_VAR_SITE", "value": "north"}], "podAnnotations": {"a": "b"}, "nodeSelector": {"disk": "nvme"},
        "tolerations": [{"key": "iot", "operator": "Exists"}], "affinity": {"nodeAffinity": {}}, "podDisruptionBudget": {"enabled": False},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    }  # fmt: skip

    def values(self, folder, values):
        """As a file; YAML takes JSON."""
        file = Path(folder) / "values.yaml"
        file.write_text(json.dumps(values))
        return ["--values", file]

    def test_helm_finds_nothing_wrong(self):
        with tempfile.TemporaryDirectory() as folder:
            for values in ({}, self.OTHERS):
                said = subprocess.run([HELM, "lint", "--strict", CHART, *self.values(folder, values)], capture_output=True, text=True)
                self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_every_object_is_one_that_kubernetes_takes(self):
        with tempfile.TemporaryDirectory() as folder:
            for values, kinds in (
                ({}, ["ConfigMap", "PodDisruptionBudget", "Service", "Service", "StatefulSet"]),
                (self.OTHERS, ["ConfigMap", "Service", "Service", "ServiceMonitor", "StatefulSet"]),
            ):
                objects = list(yaml.safe_load_all(output(HELM, "template", "edge", CHART, "--kube-version", VERSIONS[-1], *self.values(folder, values))))
                self.assertEqual(sorted(each["kind"] for each in objects), kinds)
                for each in objects:
                    # The Prometheus operator's own kind is not in Kubernetes.
                    if each["kind"] != "ServiceMonitor":
                        for version in VERSIONS:
                            kubernetes_validate.validate(each, version, strict=True)
            pods = next(each for each in objects if each["kind"] == "StatefulSet")
            pods["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
            with self.assertRaises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(pods, VERSIONS[0], strict=True)

    def test_its_configuration_is_valid(self):
        text = re.search(r"^config: \|\n((?:  .*\n|\n)+)", (CHART / "values.yaml").read_text(), re.M)[1]
        config = re.sub(r"^  ", "", text, flags=re.M)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
        subprocess.run([BINARY, "check", "--offline", "-"], input=config, text=True, check=True, stdout=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    if not BINARY.exists():
        sys.exit(f"{BINARY} is missing: cargo build, or FOREBAY_BINARY")
    unittest.main()
