"""The faults, one class each. docs/internals/FAULTS.md has the table; `run.py` the command line."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from guests import Guests
from stand import Failed, Skipped, Stand, free_ports, quantiles
import readers  # tests/python: found by way of stand
import movers
import stand

MIB = 1 << 20


class Scenario(Stand):
    """A fault that comes `--cycles` times, in rounds of `--round`, until `--seconds` are over."""

    name = ""
    plain: dict[str, object] = {}  # options where they are not those of the others
    short: dict[str, object] = {}  # options of `scripts/faults short`, in CI's time
    long: dict[str, object] = {}
    needs: tuple[str, ...] = ()  # "spool", "faults"
    in_short = True  # of `scripts/faults short`

    @classmethod
    def made(cls, options, program: Path | None = None) -> "Scenario":
        if "spool" in cls.needs and options.spool == "none":
            raise Skipped(f"{cls.name} hurts the disk: it needs --spool stored or replicated")
        return cls(cls.name, options, program)

    def go(self) -> bool:
        try:
            self.run()
            self.judge()
            return all(self.checks.values())
        except Failed as why:
            self.facts |= {"cycles": getattr(self, "cycle", 0), "why it ended": str(why).replace(str(self.work), "work")[:2_000]}
            self.checks["ran to its end"] = False
            raise
        except (SystemExit, KeyboardInterrupt):
            self.interrupted = True
            raise
        finally:
            self.clean_up()

    def run(self) -> None:
        self.prepare()
        self.chance = random.Random(self.options.seed)
        self.cycle = 0
        self.flow_began = time.monotonic()
        while self.is_more():
            self.begin_round()
            self.wait_flow()
            for _ in range(self.options.round):
                if not self.is_more():
                    break
                self.cycle += 1
                self.hurt()
            self.before_end()
            self.end_round()
        self.watch.settled()
        self.facts["cycles"] = self.cycle

    def is_more(self) -> bool:
        options = self.options
        return self.cycle < options.cycles and time.monotonic() - self.flow_began < options.seconds

    def prepare(self) -> None:
        self.start_kafka()
        self.start_service()

    def start_service(self, **settings: object) -> None:
        """Also with the file that says what is wrong with the disk, where that is wanted."""
        faulty = "faults" in self.needs or bool(self.options.hold_writes)
        if faulty:
            self.faults_file = self.work / "faults"
            self.environment["FOREBAY_FAULTS"] = str(self.faults_file)
            self.set("")
        super().start_service(**settings)
        if faulty and "FOREBAY_FAULTS" not in self.service.log_file.read_text():
            raise Failed("this build does not look at FOREBAY_FAULTS (cargo build --features faults), or has no spool")

    def set(self, text: str) -> None:
        """What is wrong with the disk from now on; writes that are held are held throughout."""
        new = self.faults_file.with_suffix(".new")
        new.write_text(f"hold_writes_ms = {self.options.hold_writes}\n{text}")
        new.rename(self.faults_file)

    def hurt(self) -> None:
        """One cycle: the fault, its end, and some flow after."""
        raise NotImplementedError

    def before_end(self) -> None:
        """All is well again before a round ends."""

    def flow(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            if not self.service.alive():
                raise Failed(f"the service has ended with status {self.service.process.returncode}; its log:\n{self.service.tail()}")
            time.sleep(min(0.1, max(0.0, end - time.monotonic())))

    def wait_silence(self, patience_s: float, lines: int = 2) -> bool:
        """Until nothing was answered for so many seconds."""
        deadline = time.monotonic() + patience_s
        seen, silent = self.load.progress()["s"], 0
        while time.monotonic() < deadline:
            self.flow(0.2)
            line = self.load.progress()
            if line["s"] != seen:
                seen, silent = line["s"], silent + 1 if line["answers"] == 0 else 0
                if silent >= lines:
                    return True
        return False

    def keeps_answering(self, name: str) -> None:
        """At `stored` Kafka's absence is no reason not to answer. Spans that are short, and a machine that is slow, say little."""
        if self.options.spool == "stored":
            spans = [mark for mark in self.marks if mark["name"] == name]
            length_ms = lambda mark: mark["ended_ms"] - mark["at_ms"]
            bound_ms = 400 * self.options.within
            silent = [mark for mark in spans if length_ms(mark) >= 1_500 and mark["silence_ms"] >= min(bound_ms, 0.9 * length_ms(mark))]
            self.facts[f"longest silence in ms, {name}"] = quantiles([mark["silence_ms"] for mark in spans])
            self.checks[f"at stored answers go on, {name}: no silence of {bound_ms / 1000:g} s"] = bool(spans) and not silent


class Kill9(Scenario):
    """The service is killed with -9 at 50 to 3,000 ms after it was ready, a quarter of the times again 0 to 200 ms into its start, up to five times."""

    name = "kill9"
    short = {"cycles": 6, "round": 6}
    long = {"cycles": 300, "round": 25}

    def run(self) -> None:
        self.ready_s: list[float] = []
        self.kills = self.nested = self.deepest = 0
        super().run()

    def kill(self) -> None:
        self.look()
        self.service.kill()
        self.kills += 1

    def hurt(self) -> None:
        self.flow(self.chance.uniform(0.05, 3.0))
        self.kill()
        depth = self.chance.randint(1, 5) if self.chance.random() < 0.25 else 0
        for _ in range(depth):
            self.spawn()
            time.sleep(self.chance.uniform(0, 0.2))
            self.kill()
            self.nested += 1
        self.deepest = max(self.deepest, depth)
        self.ready_s.append(self.restart())
        self.load.mark("after kill -9")

    def judge(self) -> None:
        super().judge()
        within = self.options.ready_within
        self.facts |= {
            "killed": self.kills, "of these during a start": self.nested, "deepest": self.deepest,
            "ms until ready": quantiles([round(s * 1000) for s in self.ready_s]),
        }  # fmt: skip
        self.checks[f"ready again within {within:g} s"] = bool(self.ready_s) and max(self.ready_s) <= within
        self.answered_within("after kill -9", self.options.within, "ready again after kill -9")


class Backlog(Kill9):
    """Kafka is frozen, or killed with -9, for up to three kills of the service, each of which finds more than the last; then it is back."""

    name = "backlog"
    short = {"cycles": 1, "buffer": "8MiB"}
    long = {"cycles": 60, "round": 10, "buffer": "8MiB"}

    def hurt(self) -> None:
        frozen = self.chance.random() < 0.5
        self.kafka("freeze" if frozen else "kill9", 1)
        for _ in range(self.chance.randint(1, 3)):
            super().hurt()
        self.flow(self.chance.uniform(0.2, 1.0))
        self.kafka("thaw", 1) if frozen else self.kafka("start", "--broker", 1)
        self.load.mark("Kafka back")
        self.flow(self.chance.uniform(0.2, 3.0))

    def judge(self) -> None:
        # Without Kafka a start is answered at `stored` alone.
        Scenario.judge(self) if self.options.spool != "stored" else super().judge()
        self.answered_within("Kafka back", self.options.within, "Kafka back")


class Kafka(Scenario):
    """Kafka is frozen for 1 s and for --freeze s, killed with -9 and started again; with --brokers 3 leaders move as well."""

    name = "kafka"
    short = {"cycles": 1, "freeze": 3.0}
    long = {"cycles": 10, "round": 5, "freeze": 10.0, "brokers": 3}

    def hurt(self) -> None:
        for seconds in (1.0, self.options.freeze):
            broker = self.broker()
            self.load.mark("Kafka away")
            self.kafka("freeze", broker)
            self.flow(seconds)
            self.kafka("thaw", broker)
            self.back()
        broker = self.broker()
        self.load.mark("Kafka away")
        self.kafka("kill9", broker)
        self.flow(2)
        self.kafka("start", "--broker", broker)
        self.back()
        if self.options.brokers >= 3:
            self.wait_in_sync()
            self.load.mark("leaders move")
            self.move()
            self.flow(3)

    def broker(self) -> int:
        return self.chance.randint(1, self.options.brokers)

    def back(self) -> None:
        self.load.mark("Kafka back")
        self.flow(3)

    def topic(self) -> dict:
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return admin.list_topics(self.load.topic, timeout=20).topics[self.load.topic].partitions

    def wait_in_sync(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if all(len(partition.isrs) == len(partition.replicas) for partition in self.topic().values()):
                    return
            except Exception:  # KafkaException has no type of its own to name
                pass
            self.flow(0.3)
        raise Failed("the replicas are not in sync after 60 s")

    def move(self) -> None:
        for broker in self.bootstrap.split(","):
            try:
                orders = {n: [r for r in p.replicas if r != p.leader] + [p.leader] for n, p in self.topic().items()}
                movers.reorder(broker, self.load.topic, orders)
                self.counts["leaders moved"] += movers.elect(broker, self.load.topic, list(orders))
                return
            except (OSError, RuntimeError, KeyError, movers.struct.error) as error:
                self.say(f"no move by {broker}: {error}")  # not the controller, or not there

    def judge(self) -> None:
        super().judge()
        self.answered_within("Kafka back", self.options.within, "Kafka back")
        self.keeps_answering("Kafka away")
        if self.options.brokers >= 3:
            self.answered_within("leaders move", self.options.within, "leaders moved")
            self.checks["leaders moved"] = self.counts["leaders moved"] > 0


class Network(Scenario):
    """Our own proxy stands before Kafka: a longer way, connections cut at any byte, answers or everything swallowed, nobody listening."""

    name = "network"
    short = {"cycles": 1}
    long = {"cycles": 20, "round": 5}
    REQUEST_TIMEOUT_S = 3

    def prepare(self) -> None:
        port, proxy = free_ports(2)
        self.service_bootstrap = f"127.0.0.1:{proxy}"
        command = [sys.executable, Path(__file__).with_name("wire.py"), str(proxy), f"127.0.0.1:{port}"]
        self.wire = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        self.undo.append(self.wire.kill)
        # Clients are told the proxy's address: a second line of the same property wins.
        self.start_kafka("--port", port, "--config", f"advertised.listeners=PLAINTEXT://127.0.0.1:{proxy}")
        self.start_service(cluster=f'request_timeout = "{self.REQUEST_TIMEOUT_S}s"')

    def tell(self, order: str) -> None:
        self.wire.stdin.write(order + "\n")
        self.wire.stdin.flush()

    def hurt(self) -> None:
        cuts = [f"cut {self.chance.randint(1, 20_000)}" for _ in range(5)]
        faults = [("delay 30", 2.0), *((cut, 0.5) for cut in cuts), ("deaf", 2.0), ("blackhole", 2.0), ("refuse", 1.5)]
        self.chance.shuffle(faults)
        for order, seconds in faults:
            self.load.mark(f"network: {order.split()[0]}")
            self.tell(order)
            self.flow(seconds)
            # What was swallowed never comes: by turns the connections end now, or are left to the time-outs.
            self.tell("well cut" if (order == "deaf") == (self.cycle % 2 == 0) else "well")
            self.load.mark("network well")
            self.flow(self.REQUEST_TIMEOUT_S + 1 if order in ("deaf", "blackhole") else 1)

    def before_end(self) -> None:
        self.tell("well")

    def judge(self) -> None:
        super().judge()
        self.answered_within("network well", self.options.within + self.REQUEST_TIMEOUT_S, "network well again")
        for fault in ("cut", "deaf", "blackhole", "refuse"):
            self.keeps_answering(f"network: {fault}")


class PowerCut(Kill9):
    """Kill -9 with a group that is written and not synced, a start that answers what it is asked, and then the power goes: what was never synced is gone."""

    name = "power-cut"
    short = {"cycles": 3, "round": 3}
    long = {"cycles": 100, "round": 10}
    needs = ("spool", "faults")
    DISK_MIB = 512

    def prepare(self) -> None:
        self.disk = self.work / "disk"
        self.disk.mkdir()
        self.image = self.work / "disk-0.ext4"
        with open(self.image, "wb") as file:
            file.truncate(self.DISK_MIB * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", self.image], check=True)
        if not self.mount():
            raise Skipped("this machine lets nobody mount an ext4")
        self.undo.append(lambda: subprocess.run(["umount", "-l", self.disk], check=False))
        self.data = self.disk / "data"
        self.options.spool_bytes = f"{self.DISK_MIB // 2}MiB"
        self.cuts = 0
        super().prepare()

    def mount(self) -> bool:
        return subprocess.run(["mount", "-o", "loop", self.image, self.disk], capture_output=True).returncode == 0

    def hurt(self) -> None:
        self.flow(self.chance.uniform(0.5, 2.0))
        # What is in Kafka already survives any cut of ours.
        self.kafka("freeze", 1)
        self.set("withhold_syncs = 1\n")
        time.sleep(self.chance.uniform(0.02, 0.3))
        self.kill()
        self.set("")
        self.ready_s.append(self.restart())
        self.load.mark("after kill -9")
        # What it answers now must not stand on bytes that were never synced.
        self.flow(self.chance.uniform(0.1, 1.5))
        self.kill()
        self.cut()
        self.ready_s.append(self.restart())
        self.kafka("thaw", 1)
        self.load.mark("power back")
        self.flow(0.5)

    def cut(self) -> None:
        synced, unsynced = self.disk / f"synced-{self.cuts}", self.disk / f"unsynced-{self.cuts}"
        with open(synced, "wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        unsynced.write_bytes(b"x" * 4096)
        before, self.cuts = self.image, self.cuts + 1
        self.image = self.work / f"disk-{self.cuts}.ext4"
        subprocess.run(["cp", "--sparse=always", before, self.image], check=True)
        # The rings of what was killed are taken down in the background, with the files that they hold.
        deadline = time.monotonic() + 10
        while subprocess.run(["umount", self.disk], capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                raise Failed("the file system is still in use 10 s after kill -9")
            time.sleep(0.05)
        before.unlink()
        if not self.mount():
            raise Failed("the file system cannot be mounted after the power cut")
        if not synced.exists() or unsynced.exists() and unsynced.stat().st_size > 0:
            raise Failed("that was no power cut: what was synced is gone, or what was not is there")

    def judge(self) -> None:
        super().judge()
        self.facts["power cuts"] = self.cuts
        self.checks["the power was cut"] = self.cuts > 0
        self.answered_within("power back", self.options.within, "ready again after a power cut")


class DiskFull(Scenario):
    """data_dir lies on a small file system; a backlog fills it, then a foreign file that is removed, then that and a kill -9."""

    name = "disk-full"
    short = {"cycles": 1, "payload": 500}
    long = {"cycles": 5, "round": 1}
    DISK_MIB = 208

    def prepare(self) -> None:
        disk = self.work / "disk"
        disk.mkdir()
        kind = self.options.disk
        if kind == "ext4":
            image = self.work / "disk.ext4"
            with open(image, "wb") as file:
                file.truncate(self.DISK_MIB * MIB)
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
            command = ["mount", "-o", "loop", image, disk]
        else:
            command = ["mount", "-t", "tmpfs", "-o", f"size={self.DISK_MIB}m", "tmpfs", disk]
        if subprocess.run(command, capture_output=True).returncode != 0:
            raise Skipped(f"this machine lets nobody mount a {kind}")
        self.undo.append(lambda: subprocess.run(["umount", disk], check=False))
        self.disk, self.data, self.foreign = disk, disk / "data", disk / "foreign"
        self.options.spool_bytes = f"{self.DISK_MIB * 3 // 4}MiB"
        super().prepare()
        self.stalls: list[bool] = []

    def hurt(self) -> None:
        pid = self.service.process.pid
        self.load.mark("Kafka away")
        self.kafka("freeze", 1)
        self.stall()
        self.kafka("thaw", 1)
        self.load.mark("space back")
        self.flow(4)

        self.kafka("freeze", 1)
        self.eat()
        self.stall()
        self.foreign.unlink()
        self.kafka("thaw", 1)
        self.load.mark("space back")
        self.flow(4)
        self.checks["goes on without a restart"] = self.checks.get("goes on without a restart", True) and self.service.process.pid == pid

        self.kafka("freeze", 1)
        self.eat()
        self.stall()
        self.look()
        self.service.kill()
        self.foreign.unlink()
        self.kafka("thaw", 1)
        self.restart()
        self.load.mark("space back")
        self.flow(3)

    def eat(self) -> None:
        """To the last byte."""
        self.load.mark("a foreign file eats the space")
        with open(self.foreign, "wb", buffering=0) as file:
            for size in (MIB, 4096, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    pass

    def stall(self) -> None:
        self.stalls.append(self.wait_silence(60))
        free = os.statvfs(self.disk)
        self.say(f"nothing is answered any more: {self.stalls[-1]}; {free.f_bavail * free.f_frsize >> 10} KiB free")

    def before_end(self) -> None:
        self.foreign.unlink(missing_ok=True)

    def judge(self) -> None:
        super().judge()
        self.checks["answers stopped when nothing could be stored"] = bool(self.stalls) and all(self.stalls)
        self.answered_within("space back", self.options.within, "space back")


class Disk(Scenario):
    """What the scenarios of a bad disk share: FOREBAY_FAULTS, in a build with the feature `faults`."""

    needs = ("spool", "faults")

    def before_end(self) -> None:
        self.set("")


class SlowDisk(Disk):
    """A sync takes 50 ms, then --slow s."""

    name = "slow-disk"
    short = {"cycles": 1, "slow": 2.0}
    long = {"cycles": 10, "round": 5, "slow": 5.0}

    def hurt(self) -> None:
        for seconds, syncs in ((0.05, 40), (self.options.slow, 2)):
            self.load.mark(f"syncs take {seconds:g} s")
            self.set(f"sync_delay_ms = {round(seconds * 1000)}\n")
            self.flow(seconds * syncs)
            self.set("")
            self.load.mark("disk well")
            self.flow(seconds + 2)

    def judge(self) -> None:
        super().judge()
        self.answered_within("disk well", self.options.within + self.options.slow, "disk well again")
        self.checks["no client lost its connection"] = self.counts["connections: lost"] == 0
        slow = [mark for mark in self.marks if mark["name"] == f"syncs take {self.options.slow:g} s"]
        self.checks["answers follow the syncs"] = bool(slow) and all(mark["silence_ms"] >= self.options.slow * 500 for mark in slow)


class SyncError(Disk):
    """Syncs fail with EIO, appends with ENOSPC, writes are short; now and then a kill -9 in it."""

    name = "sync-error"
    short = {"cycles": 1}
    long = {"cycles": 30, "round": 5}

    def hurt(self) -> None:
        for fault in ("sync_errno = 5", "append_errno = 28", "create_errno = 28", "delete_errno = 5", "write_bytes_max = 512"):
            self.load.mark(f"disk: {fault}")
            self.set(fault + "\n")
            end = time.monotonic() + self.chance.uniform(0.3, 2)
            while time.monotonic() < end and self.service.alive():
                time.sleep(0.05)
            if self.service.alive() and self.chance.random() < 0.3:
                self.look()
                self.service.kill()
                self.counts["killed in it"] += 1
            self.set("")
            if not self.service.alive():  # a service that stops for it is one that is started again
                self.counts["starts after it"] += 1
                self.restart()
            self.load.mark("disk well")
            self.flow(2)

    def judge(self) -> None:
        super().judge()
        self.answered_within("disk well", self.options.within, "disk well again")


class SigTerm(Scenario):
    """SIGTERM, by turns under load and with Kafka frozen and a backlog; the service ends within its grace and is started again."""

    name = "sigterm"
    short = {"cycles": 2}
    long = {"cycles": 40, "round": 10}
    GRACE_S = 5
    # What is on the disk is sent for one second more and answered within another.
    SPOOLED_S = 2

    def prepare(self) -> None:
        self.start_kafka()
        self.start_service(grace=self.GRACE_S)
        self.ends_s: list[float] = []

    def hurt(self) -> None:
        frozen = self.cycle % 2 == 0
        if frozen:
            self.kafka("freeze", 1)
        self.flow(self.chance.uniform(1, 3))
        self.look()
        begin = time.monotonic()
        self.service.process.send_signal(signal.SIGTERM)
        try:
            status = self.service.process.wait(self.GRACE_S + 30)
        except subprocess.TimeoutExpired:
            raise Failed("the service does not end after SIGTERM") from None
        self.ends_s.append(round(time.monotonic() - begin, 2))
        self.counts[f"ended with status {status}, Kafka {'frozen' if frozen else 'well'}"] += 1
        if frozen:
            self.kafka("thaw", 1)
        self.restart()
        self.load.mark("after SIGTERM")
        self.flow(1)

    def judge(self) -> None:
        super().judge()
        self.facts["seconds until it ended"] = quantiles(self.ends_s)
        bound = self.GRACE_S if self.options.spool == "none" else self.SPOOLED_S
        self.checks[f"ended within {bound} s, or little more"] = bool(self.ends_s) and max(self.ends_s) < bound + 2
        self.answered_within("after SIGTERM", self.options.within, "ready again after SIGTERM")


class Memory(Scenario):
    """The service in a cgroup of --limit MiB; Kafka away for --away s. With a spool, room for all of it."""

    name = "memory"
    # Windows that hold more than the memory for records.
    short = {"cycles": 1, "away": 5.0, "limit": 160, "clients": 100, "window": 1_000, "payload": 500, "spool_bytes": "2GiB"}
    long = {"cycles": 2, "round": 1, "away": 120.0, "limit": 160, "clients": 200, "window": 1_000, "payload": 500, "spool_bytes": "8GiB", "rate": 40_000}

    def prepare(self) -> None:
        self.group = Path(f"/sys/fs/cgroup/memory/forebay-faults-{os.getpid()}")
        try:
            self.group.mkdir()
            (self.group / "memory.limit_in_bytes").write_text(str(int(self.options.limit * MIB)))
        except OSError as error:
            raise Skipped(f"no cgroup (v1) for memory: {error}") from None
        self.undo.append(self.leave)
        self.wrap = ["sh", "-c", f'echo $$ >{self.group}/cgroup.procs && exec "$@"', "sh"]
        super().prepare()

    def leave(self) -> None:
        for _ in range(50):
            try:
                return self.group.rmdir()
            except OSError:
                time.sleep(0.1)

    def hurt(self) -> None:
        self.load.mark("Kafka away")
        self.kafka("kill9", 1)
        self.flow(self.options.away)
        self.kafka("start", "--broker", 1)
        self.load.mark("Kafka back")
        self.flow(4)

    def judge(self) -> None:
        super().judge()
        read = lambda name: (self.group / name).read_text()
        killed = [line for line in read("memory.oom_control").splitlines() if line.startswith("oom_kill ")]
        self.facts |= {
            "limit in MiB": self.options.limit, "most in the cgroup, MiB, file pages too": int(read("memory.max_usage_in_bytes")) // MIB,
            "times at the limit": int(read("memory.failcnt")), "killed for memory": killed[0].split()[1] if killed else "not said",
        }  # fmt: skip
        self.checks["one process throughout: no kill for memory"] = self.service.starts == 1 and self.service.alive()
        self.answered_within("Kafka back", self.options.within, "Kafka back")
        self.keeps_answering("Kafka away")


class Reload(Scenario):
    """The configuration is changed under load, again and again: sinks for the same messages come, change and go, sizes and times of the first one change, those of the
    cluster, its bootstrap list and client id as well, and listeners with clients of their own come and go. Only clients of a listener that goes may lose their connection."""

    name = "reload"
    short = {"cycles": 8, "round": 8}
    long = {"cycles": 50, "round": 50, "clients": 10_000, "rate": 50_000}
    GUESTS = 8
    LISTENER = '[[listener]]\nbind = "127.0.0.1:{port}"\nreceipts = {receipts}\n'
    BESIDE = """
[[sink]]
name = "beside-{number}"
kafka = "main"
filters = {filters}
topic = "faults-beside"
linger = "{linger}ms"
headers = {{ round = "{number}" }}
{sink}
"""

    def prepare(self) -> None:
        super().prepare()
        readers.create_topic(self.bootstrap, "faults-beside", 3)
        self.plain = self.service.text
        self.port = self.service.mqtt_port
        self.reload_s: list[float] = []
        self.buffer_kib = int(self.options.buffer.removesuffix("MiB")) << 10
        self.first: dict = {}
        # Listeners that come and go, with those who are connected to them now.
        self.doors: dict[int, Guests | None] = dict.fromkeys(free_ports(2))
        self.guests = {"connected": 0, "told": 0, "not told": 0, "lost": 0}

    def lines(self, words: str) -> int:
        return self.service.log_file.read_text(errors="replace").count(words)

    def reload(self, text: str) -> None:
        self.service.text = text
        self.service.config_file.write_text(text.replace("{port}", str(self.port)))
        done = "configuration reloaded"
        before, began = self.lines(done), time.monotonic()
        self.service.process.send_signal(signal.SIGHUP)
        while self.lines(done) == before:
            if time.monotonic() > began + 30 or "reload failed" in self.service.tail():
                raise Failed(f"no reload; the service's log:\n{self.service.tail()}")
            time.sleep(0.01)
        self.reload_s.append(time.monotonic() - began)

    def wait_connected(self, patience_s: float = 60) -> None:
        deadline = time.monotonic() + patience_s
        while self.load.progress()["connected"] < self.options.clients:
            if time.monotonic() > deadline:
                raise Failed(f"not all clients have a connection after {patience_s} s")
            self.flow(0.2)

    def cluster(self) -> str:
        """Its table with other settings. Memory only grows: less of it needs a restart."""
        self.buffer_kib += 1
        bootstrap = self.chance.choice((self.bootstrap, self.bootstrap.replace("127.0.0.1", "localhost")))
        keys = {
            "bootstrap": f'"{bootstrap}"', "buffer_bytes": f'"{self.buffer_kib}KiB"', "client_id": f'"reload-{self.cycle}"',
            "request_timeout": f'"{self.chance.randint(5, 30)}s"', "metadata_max_age": f'"{self.chance.randint(1, 300)}s"',
        }  # fmt: skip
        return "".join(f"{key} = {value}\n" for key, value in keys.items())

    def changed(self) -> str:
        """The first configuration with another cluster table."""
        head, rest = self.plain.split("[kafka.main]\n")
        return f"{head}[kafka.main]\n{self.cluster()}{rest[rest.index('[') :]}"

    def hurt(self) -> None:
        if not self.first:
            self.wait_connected()
            self.first = self.load.progress()
        self.flow(self.chance.uniform(0.2, 0.6))
        first = f'linger = "{self.chance.randint(0, 20)}ms"\nbatch_bytes = "{self.chance.choice((16, 64, 256))}KiB"\nmax_inflight = {self.chance.randint(1, 5)}\n'
        beside = ""
        # The same two names over and over: they keep their places.
        for number in range(2):
            if self.chance.random() < 0.6:
                filters = self.chance.choice(('"flow/#"', '["flow/+/+/0", "other"]', '"flow/#"'))
                beside += self.BESIDE.format(number=number, filters=filters, linger=self.chance.randint(0, 9), sink=stand.SINK[self.options.spool])
        open_doors = [port for port in self.doors if self.chance.random() < 0.6]
        receipts = self.chance.choice(("true", "false"))
        doors = "".join(self.LISTENER.format(port=port, receipts=receipts) for port in open_doors)
        self.reload(self.changed() + first + beside + doors)
        self.load.mark("reloaded")
        self.look_after_guests(open_doors)

    def look_after_guests(self, open_doors: list[int]) -> None:
        for port, guests in self.doors.items():
            if guests is not None and port not in open_doors:
                missing = guests.not_told()
                self.guests["not told"] += missing
                self.guests["told"] += self.GUESTS - missing
                self.doors[port] = None
            elif guests is not None:
                self.guests["lost"] += guests.lost()
            elif port in open_doors:
                self.doors[port] = Guests(port, [f"guest-{port}-{number}" for number in range(self.GUESTS)])
                self.guests["connected"] += self.GUESTS

    def before_end(self) -> None:
        last = self.load.progress()
        if last["s"] > self.first["s"]:
            self.facts["messages a second through the reloads"] = round((last["settled"] - self.first["settled"]) / (last["s"] - self.first["s"]))
        self.reload(self.changed())
        self.look_after_guests([])
        self.load.mark("reloaded")
        self.flow(1)

    def judge(self) -> None:
        super().judge()
        self.facts["ms until a reload was done"] = quantiles([round(s * 1000) for s in self.reload_s])
        rows = sum(readers.ends(self.bootstrap, "faults-beside").values())
        self.checks["the second sinks took messages"] = rows > 0
        self.facts["messages that the second sinks took"] = rows
        self.checks["no connection was lost"] = self.counts["connections: lost"] == 0 and self.counts["connections: accepted"] > 0
        self.facts["clients of listeners that come and go"] = self.guests
        told = self.guests["connected"] == self.guests["told"]
        self.checks["clients of a removed listener were told, the others stayed"] = told and self.guests["connected"] > 0 and self.guests["lost"] == 0
        self.checks["one process throughout"] = self.service.starts == 1 and self.service.alive()
        self.checks["no change waits for a restart"] = self.lines("need a restart") == 0
        self.answered_within("reloaded", self.options.within, "after a reload")


ALL = {made.name: made for made in (Kill9, Backlog, Kafka, Network, PowerCut, DiskFull, SlowDisk, SyncError, SigTerm, Memory, Reload)}


# Run with each value of [spool] append.
BOTH_APPENDS = ("kill9", "disk-full", "sync-error")


class Part(NamedTuple):
    """Of `scripts/faults long`."""

    name: str
    spool: str
    seconds: float  # about; with --seconds each part gets its share
    options: dict[str, object] = {}


MAPPED = {"append": "mapped"}
HELD = {"cycles": 100, "hold_writes": 100}
LONG = (
    Part("kill9", "stored", 900), Part("kill9", "replicated", 900), Part("kill9", "none", 300, {"cycles": 100}),
    Part("kill9", "stored", 300, HELD), Part("kill9", "replicated", 300, HELD),
    Part("kill9", "stored", 300, {"cycles": 100} | MAPPED), Part("disk-full", "stored", 120, {"cycles": 2} | MAPPED),
    Part("sync-error", "stored", 200, {"cycles": 10} | MAPPED),
    Part("subscribers", "stored", 1_000), Part("subscribers", "stored", 300, {"cycles": 50, "hold_writes": 100, "rate": 100}),
    Part("machine", "none", 1_800), Part("instances", "none", 1_800), Part("growth", "none", 180), Part("takeovers", "none", 240), Part("instance-lost", "none", 240),
    Part("mixed", "none", 720),
    Part("power-cut", "stored", 600), Part("power-cut", "replicated", 200, {"cycles": 30}), Part("power-cut", "stored", 200, {"cycles": 30} | MAPPED),
    *(Part("backlog", spool, 600) for spool in ("stored", "replicated")),
    *(Part("kafka", spool, 400) for spool in ("stored", "replicated", "none")),
    *(Part("network", spool, 600) for spool in ("stored", "replicated")), Part("network", "none", 200, {"cycles": 6}),
    *(Part(name, spool, seconds) for name, seconds in (("disk-full", 240), ("slow-disk", 240), ("sync-error", 600)) for spool in ("stored", "replicated")),
    *(Part("sigterm", spool, 240) for spool in ("stored", "replicated", "none")), *(Part("reload", spool, 120, {"reconnect_every": 0}) for spool in ("stored", "none")),
    Part("sources", "stored", 600), Part("sources", "none", 300),
    Part("rules", "stored", 400), Part("rules", "stored", 200, {"cycles": 40, "hold_writes": 100}), Part("rules", "none", 200, {"cycles": 40}),
    *(Part("memory", spool, 400) for spool in ("stored", "replicated", "none")),
)  # fmt: skip
