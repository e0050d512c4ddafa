"""A sweep on a Slurm cluster. What became of a cell is decided by its record on the shared folder, and by nothing else.

Slurm requeues the jobs of a node that fails, which submitit takes for their end, and can run one twice at once: the
first record stands. A sweep that is started again submits nothing that is still in the queue.
"""

import json
import secrets
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import attempt, launcher, plan, record
from bench.board import Board, Running
from bench.launcher import Job, Stopped, Word, interrupts, look, now
from bench.record import BadInput

LAUNCHER = "submitit_slurm"
SILENT = "squeue does not answer: it is asked again, and records are looked for"
LEAVING = "the jobs stay in the queue; the same command waits for them again"
SIGNAL_SECONDS = 15  # before its limit Slurm's signal ends a task; ours is earlier, and leaves a record
POLL_SECONDS = 2.0
GONE_SECONDS = 20.0  # a shared folder may show a record so long after its job has left the queue
USUAL = {
    "None",
    "Resources",
    "Priority",
    "JobArrayTaskLimit",
    "BeginTime",
    "Dependency",
}  # why jobs wait for their turn
CLIENT_SECONDS = 30.0  # Slurm's commands hang while its controller is down


@dataclass(frozen=True)
class Request:
    """What sbatch is asked for, in submitit's names; `parameters` go to it as they are."""

    minutes: int
    array_parallelism: int
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def beside(self) -> int:
        """How many tasks may share a node: all that run at once, unless nodes are asked for `exclusive`."""
        return 1 if self.parameters.get("exclusive") else self.array_parallelism


def sweep(jobs: Sequence[Job], module: str, request: Request) -> list[str]:
    """Submit the jobs without a record that are not in the queue, wait for all; as launcher.sweep. Raises Stopped."""
    launcher.clear(jobs)
    with interrupts(LEAVING) as presses, Board([job.title for job in jobs], request.array_parallelism) as board:
        launcher.learn(board, jobs)
        word = Word(jobs, LAUNCHER, board)
        statuses: dict[int, str] = {}
        for index, job in enumerate(jobs):
            if job.path.exists():
                _end(index, job, board, statuses, cached=True)
        ids = _submitted([job for index, job in enumerate(jobs) if index not in statuses], module, request, word)
        _wait(jobs, ids, board, word, statuses, presses)
        if presses:
            raise Stopped
        return [statuses[index] for index in range(len(jobs))]


def work(job: Job, module: str, beside: int) -> None:
    """What a task of the array does: run the cell in a process that can be killed, and see to its record."""
    launcher.sweep([job], module, launcher=LAUNCHER, announced=False, beside=beside)


@dataclass
class Book:
    """Slurm's number of each job by its key, and the array that was asked for last: its mark and the keys in it.

    The array is noted before sbatch is asked, so that it is found by its mark where the launcher is killed in between.
    """

    ids: dict[str, str] = field(default_factory=dict)
    mark: str = ""
    asked: list[str] = field(default_factory=list)

    def find(self, live: Mapping[str, "Queued"]) -> None:
        """Take down the numbers of the array that was asked for last, as far as it is in the queue."""
        for number, job in live.items():
            place = number.partition("_")[2]  # none where a single job was asked for
            if self.mark and self.mark in job.comment and int(place or 0) < len(self.asked):
                self.ids[self.asked[int(place or 0)]] = number

    def save(self, path: Path) -> None:
        record.write_over(path, json.dumps(vars(self)).encode())


def read(path: Path) -> Book:
    """The book in `path`; an empty one where there is none."""
    with suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
        found = json.loads(path.read_bytes())
        ids = {str(key): str(number) for key, number in found["ids"].items()}
        return Book(ids, str(found["mark"]), [str(key) for key in found["asked"]])
    return Book()


def _submitted(jobs: Sequence[Job], module: str, request: Request, word: Word) -> dict[str, str]:
    """Slurm's number of each job by its key: those of before where they are still in the queue. Raises BadInput."""
    if not jobs:
        return {}
    folder = plan.folder(jobs[0].runs.parent)
    path = folder / f"{word.plan.id}.slurm"
    book, live = read(path), queue()
    if live is None:
        raise BadInput("squeue does not answer: is this a machine of the cluster, and its controller up?")
    book.find(live)
    new = {record.key(job.config): job for job in jobs if book.ids.get(record.key(job.config)) not in live}
    if new:
        book = Book(book.ids, secrets.token_hex(8), list(new))
        book.save(path)
        book.ids |= zip(new, submit(list(new.values()), module, request, folder / "slurm", book.mark), strict=True)
        book.save(path)
    return book.ids


def submit(jobs: Sequence[Job], module: str, request: Request, logs: Path, mark: str) -> list[str]:
    """Submit the jobs as one array, `mark` in its comment; Slurm's number of each. Raises BadInput."""
    try:
        import submitit
    except ModuleNotFoundError:
        raise BadInput("submitit is missing: pip install hydra-submitit-launcher, as the extra `slurm` does") from None
    try:
        executor = submitit.SlurmExecutor(folder=logs / "%A", max_num_timeout=0)
        asked = {
            "time": request.minutes,
            "signal_delay_s": SIGNAL_SECONDS,
            "array_parallelism": request.array_parallelism,
            **request.parameters,
        }
        asked["comment"] = f"{asked.get('comment', '')} {mark}".strip()
        executor.update_parameters(**asked)
        made = executor.map_array(work, jobs, [module] * len(jobs), [request.beside] * len(jobs))
    except (RuntimeError, ValueError, OSError, submitit.core.utils.FailedJobError) as error:
        raise BadInput(f"sbatch: {' '.join(str(error).split())}") from None
    return [str(one.job_id) for one in made]


@dataclass(frozen=True)
class Queued:
    """A job in the queue: RUNNING, PENDING and so on, why it waits, its comment."""

    state: str
    reason: str
    comment: str


def queue() -> dict[str, Queued] | None:
    """Each job of this user in the queue, by Slurm's number; None: no answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i|%T|%r|%k"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=CLIENT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    fields = [line.strip().split("|", 3) for line in done.stdout.splitlines() if line.count("|") >= 3]
    return {number: Queued(*rest) for number, *rest in fields}


def _wait(
    jobs: Sequence[Job],
    ids: Mapping[str, str],
    board: Board,
    word: Word,
    statuses: dict[int, str],
    presses: list[int],
) -> None:
    """Until every job has a record, or has left the queue without one for GONE_SECONDS."""
    numbers = {i: ids[record.key(job.config)] for i, job in enumerate(jobs) if i not in statuses}
    seen = dict.fromkeys(numbers, time.monotonic())  # when each was last in the queue
    began: dict[int, tuple[float, str]] = {}
    told: set[str] = set()
    while numbers and not presses:
        live = queue()
        if live is None and SILENT not in told:
            told.add(SILENT)
            board.say(SILENT)
        for index, number in list(numbers.items()):
            if jobs[index].path.exists():
                _end(index, jobs[index], board, statuses, cached=False)
            elif live is None or number in live:
                seen[index] = time.monotonic()
                if live is None:
                    continue
                job = live[number]
                if job.state == "RUNNING" and index not in began:
                    began[index] = time.monotonic(), now()
                    board.began(index)
                if job.state == "PENDING" and job.reason not in USUAL | told:
                    told.add(job.reason)
                    board.say(f"job {number} waits, says Slurm, for {job.reason}")
                continue
            elif time.monotonic() < seen[index] + GONE_SECONDS:
                continue
            else:
                statuses[index] = "error"
                text = f"{jobs[index].title}: no record (job {number} has left the queue; the same command resumes it)"
                board.ended(index, "error", text, cached=False)
            del numbers[index]
            began.pop(index, None)
        word.leave({record.key(jobs[index].config): started for index, (_, started) in began.items()})
        board.show([Running(index, time.monotonic() - since, numbers[index]) for index, (since, _) in began.items()])
        if numbers:
            time.sleep(POLL_SECONDS)
    word.leave({})


def _end(index: int, job: Job, board: Board, statuses: dict[int, str], cached: bool) -> None:
    status, text = look(job)
    statuses[index] = status
    if status != "error":
        attempt.discard(job.checkpoint)
        board.pace.learn(record.read(job.path))
    board.ended(index, status, text, cached)
