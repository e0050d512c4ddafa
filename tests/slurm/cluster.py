"""A real Slurm in a temporary folder: controller, accounting and two nodes of one processor, all on loopback."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAMS = (
    "munged",
    "mariadbd",
    "mariadb-install-db",
    "slurmdbd",
    "slurmctld",
    "slurmd",
    "sacctmgr",
    "sbatch",
    "squeue",
)
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
NODES = ("node1", "node2")

SLURM_CONF = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmctldPort={ctld}
SlurmctldPidFile={root}/slurmctld.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdPidFile={root}/slurmd.%n.pid
SlurmdLogFile={root}/slurmd.%n.log
SlurmdSpoolDir={root}/spool.%n
StateSaveLocation={root}/state
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={root}/munge.socket
MpiDefault=none
SwitchType=switch/none
SlurmdTimeout=10
ReturnToService=2
MinJobAge=300
NodeName=node1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={node1} CPUs=1
NodeName=node2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={node2} CPUs=1
PartitionName=main Nodes=ALL Default=YES LLN=YES MaxTime=60 State=UP
"""

DBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CommunicationParameters=NoInAddrAny
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser=root
LogFile={root}/slurmdbd.log
PidFile={root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct
"""


def missing() -> str | None:
    """Why there can be no cluster here; None if there can."""
    if os.geteuid() != 0:
        return "the daemons of Slurm are started as root here"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    return f"not installed: {', '.join(lacking)} (tests/slurm/install.sh)" if lacking else None


class Cluster:
    """Started by `start`, ended by `stop`; clients need `environment`. The folder's path must be short."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(root / "slurm.conf")}

    def start(self) -> None:
        """Raises RuntimeError, with what the daemons logged, where the nodes are not idle within a minute."""
        names = ("ctld", "dbd", "sql", *NODES)
        values = {
            **dict(zip(names, ports(len(names)), strict=True)),
            "root": self.root,
            "password": secrets.token_hex(8),
        }
        for name, text in (("slurm.conf", SLURM_CONF), ("slurmdbd.conf", DBD_CONF)):
            (self.root / name).write_text(text.format(**values))
            (self.root / name).chmod(0o600)
        (self.root / "state").mkdir()
        self._munge()
        self._database(values)
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self._await("slurmdbd", lambda: self.client("sacctmgr", "-n", "show", "cluster") is not None)
        self.client("sacctmgr", "-i", "add", "cluster", "test")
        self._daemon("slurmctld", "slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        self._await("the nodes", self.idle)

    def idle(self) -> bool:
        """Whether every node can take a job."""
        return (self.client("sinfo", "-h", "-N", "-o", "%T") or "").split() == ["idle"] * len(NODES)

    def start_node(self, node: str) -> None:
        (self.root / f"spool.{node}").mkdir(exist_ok=True)
        self._daemon(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str, jobs_too: bool) -> None:
        """As a crash of the daemon, or of the whole node, would."""
        self.daemons[node].kill()
        self.daemons.pop(node).wait()
        if jobs_too:
            kill(self.tasks(node))

    def tasks(self, node: str) -> list[int]:
        """The processes of a node's jobs, with the slurmstepd that watch them: those outlive their slurmd."""
        marks = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self.root}/slurm.conf".encode()}
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, IndexError):
                if marks <= set((path / "environ").read_bytes().split(b"\0")):
                    parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                    found.add(int(path.name))
                    if Path(f"/proc/{parent}/comm").read_text().strip() == "slurmstepd":
                        found.add(parent)
        return sorted(found)

    def client(self, *command: str) -> str | None:
        """What a client says; None where it fails or hangs."""
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=15, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout

    def stop(self) -> None:
        """End every daemon and what its jobs left, by their process numbers."""
        self.client("scancel", "--me")
        time.sleep(0.5)
        left = [pid for node in NODES for pid in self.tasks(node)]
        daemons = list(reversed(self.daemons.values()))
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        kill(left)

    def _daemon(self, name: str, program: str, *arguments: str) -> None:
        with open(self.root / f"{name}.out", "ab") as log:
            found = shutil.which(program, path=PATH)
            assert found is not None
            self.daemons[name] = subprocess.Popen(
                [found, *arguments], env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                cwd=self.root, start_new_session=True)  # fmt: skip

    def _munge(self) -> None:
        key = self.root / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        files = {name: self.root / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={files['socket']}",
            f"--pid-file={files['pid']}", f"--log-file={files['log']}", f"--seed-file={files['seed']}")  # fmt: skip
        self._await("munged", files["socket"].exists)

    def _database(self, values: Mapping[str, Any]) -> None:
        data, sock = self.root / "sql", self.root / "sql.socket"
        install = shutil.which("mariadb-install-db", path=PATH)
        command = [str(install), "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db"]
        with open(self.root / "sql.install.out", "wb") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, timeout=60)
        self._daemon(
            "mariadbd", "mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={sock}", "--user=root",
            "--bind-address=127.0.0.1", f"--port={values['sql']}", f"--pid-file={self.root}/sql.pid",
            "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M")  # fmt: skip
        sql = "".join(
            f"CREATE USER slurm@'{host}' IDENTIFIED BY '{values['password']}'; GRANT ALL ON *.* TO slurm@'{host}';"
            for host in ("127.0.0.1", "localhost")
        )
        client = ("mariadb", "--no-defaults", f"--socket={sock}", "-e")
        self._await("mariadbd", lambda: self.client(*client, "SELECT 1") is not None)
        self.client(*client, sql)

    def _await(self, what: str, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                logs = [f"{p.name}: {p.read_text(errors='replace')[-600:]}" for p in self.root.glob("*.[lo][ou]*")]
                raise RuntimeError(f"{what} did not come up\n" + "\n".join(logs))
            time.sleep(0.2)


def ports(n: int) -> list[int]:
    """Free ones on loopback."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def kill(processes: Sequence[int]) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
