"""A training that lives beside other work: started, paused, resumed and finished by a command.

The process runs at the lowest priority in a session of its own; its number lies in the training's
folder, and counts only while that process's command names the folder. A pause is SIGSTOP: nothing
is lost, no processor time is used, memory stays taken. Linux only.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from filelock import FileLock

import nczip
from nczip.predictors.train.runfolder import (
    CHECKPOINT,
    LOCK,
    OUTPUT,
    PID,
    Finish,
    Settings,
    read_log,
)

_LOWEST_PRIORITY = 19
_PATIENCE = 300  # seconds until a process must have begun, or ended
_RECENT = 10  # entries of the log that the speed is measured over


def process_of(folder: Path) -> int | None:
    """The number of the process that trains in a folder; None if none does."""
    try:
        pid = int((folder / PID).read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if words[-4:-1] == _command(folder)[-3:] else None


def _command(folder: Path) -> list[bytes]:
    module = "nczip.predictors.train"
    words = [sys.executable, "-m", module, "background", "run", str(folder.resolve())]
    return [os.fsencode(word) for word in words]


def is_paused(pid: int) -> bool:
    """Whether a signal has stopped a process (proc(5): its state follows its name)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def launch(folder: Path) -> int:
    """Start the process that trains in a folder; its number.

    Raises:
        click.ClickException: it ended at once; the message has its last words.
    """
    checkout = Path(nczip.__file__).parents[1]
    path = os.pathsep.join(filter(None, (str(checkout), os.environ.get("PYTHONPATH"))))
    with (folder / OUTPUT).open("a") as output:
        process = subprocess.Popen(
            _command(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
    for _ in range(_PATIENCE * 10):
        if process.poll() is not None:
            words = (folder / OUTPUT).read_text().splitlines()[-3:]
            raise click.ClickException("the training ended at once: " + "\n".join(words))
        if process_of(folder) == process.pid:
            return process.pid
        time.sleep(0.1)
    raise click.ClickException(f"the training has not begun; see {folder / OUTPUT}")


def _alive(folder: Path) -> int:
    pid = process_of(folder)
    if pid is None:
        raise click.ClickException(f"nothing trains in {folder}; 'resume' starts it again")
    return pid


_RUN = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def background_commands() -> None:
    """Train beside other work, for as long as there is time.

    start, then pause and resume; finish lets the rate decay over further steps, and ends.
    """


@background_commands.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--data", type=_RUN, required=True, help="From encode.")
@click.option("--init", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True,
              help="Weights to start from: a checkpoint (.pt, .npz) or a GGUF.")  # fmt: skip
@click.option("--batch", "batch_tokens", default=8192, show_default=True, help="Tokens in a step.")
@click.option("--rates", type=(float, float), default=(0.007, 0.001), show_default=True,
              help="Learning rates of Muon and AdamW.")  # fmt: skip
@click.option("--warmup", default=100, show_default=True, help="Steps.")
@click.option("--threads", default=1, show_default=True)
@click.option("--save-seconds", default=300.0, show_default=True)
@click.option("--bfloat16/--float32", default=True, show_default=True)
@click.option("--compile/--no-compile", "compiled", default=True, show_default=True)
def start(folder: Path, data: Path, init: Path, **others: Any) -> None:
    """Begin a training in FOLDER."""
    if (folder / CHECKPOINT).exists() or (folder.exists() and process_of(folder) is not None):
        raise click.ClickException(f"{folder} has a training already: resume it")
    folder.mkdir(parents=True, exist_ok=True)
    Settings(data=str(data.resolve()), init=str(init.resolve()), **others).write(folder)
    click.echo(f"process {launch(folder)}")


@background_commands.command(hidden=True)
@click.argument("folder", type=_RUN)
def run(folder: Path) -> None:
    """Train here: what start and resume let a process of its own do."""
    os.nice(_LOWEST_PRIORITY)
    with FileLock(folder / LOCK, timeout=0):
        (folder / PID).write_text(str(os.getpid()))
        from nczip.predictors.train import endless

        endless.run(folder)


@background_commands.command()
@click.argument("folder", type=_RUN)
def pause(folder: Path) -> None:
    """Stop the process where it is, until resume."""
    pid = _alive(folder)
    os.killpg(pid, signal.SIGSTOP)
    click.echo(f"process {pid} paused")


@background_commands.command()
@click.argument("folder", type=_RUN)
@click.option("--threads", type=int, help="From now on (of a process that is started anew).")
def resume(folder: Path, threads: int | None) -> None:
    """Let a paused process go on, or start a new one from the last checkpoint."""
    pid = process_of(folder)
    if pid is not None:
        if threads:
            raise click.ClickException("stop it first: threads are given to a new process")
        os.killpg(pid, signal.SIGCONT)
        click.echo(f"process {pid} goes on")
        return
    if threads:
        replace(Settings.read(folder), threads=threads).write(folder)
    click.echo(f"process {launch(folder)}")


@background_commands.command()
@click.argument("folder", type=_RUN)
def stop(folder: Path) -> None:
    """End the process after its step, with a checkpoint that resume goes on from."""
    pid = _alive(folder)
    os.kill(pid, signal.SIGTERM)
    os.killpg(pid, signal.SIGCONT)
    for _ in range(_PATIENCE * 10):
        if process_of(folder) is None:
            click.echo(f"process {pid} ended")
            return
        time.sleep(0.1)
    raise click.ClickException(f"process {pid} has not ended yet")


@background_commands.command()
@click.argument("folder", type=_RUN)
@click.option("--steps", required=True, type=click.IntRange(1), help="That the decay lasts.")
def finish(folder: Path, steps: int) -> None:
    """Let the rate fall to nothing over the next steps, then end.

    plateau.pt keeps what was there before: moved to checkpoint.pt, with finish.json removed, it is
    gone on from as if nothing had been finished.
    """
    if Finish.read(folder):
        raise click.ClickException("the rate decays already")
    Finish(None, steps).write(folder)
    click.echo(f"the rate decays over the next {steps} steps")
    if process_of(folder) is None:
        click.echo(f"process {launch(folder)}")


@background_commands.command()
@click.argument("folder", type=_RUN)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def save(folder: Path, file: Path) -> None:
    """Write the last checkpoint's weights as FILE (.npz, float16), which --init reads."""
    from nczip.predictors.train.model import load_weights, save_half, steps_before

    if file.suffix != ".npz":
        raise click.ClickException("FILE must end in .npz")
    checkpoint = folder / CHECKPOINT
    step = steps_before(checkpoint)
    save_half(load_weights(checkpoint), file, step)
    click.echo(f"{file}: {file.stat().st_size:,} bytes, step {step}")


@background_commands.command()
@click.argument("folder", type=_RUN)
def status(folder: Path) -> None:
    """Say what the process does, how far it is, how fast, and the losses."""
    pid = process_of(folder)
    state = "not running" if pid is None else "paused" if is_paused(pid) else "running"
    click.echo(f"process {pid}: {state}" if pid else state)
    decay = Finish.read(folder)
    if decay:
        click.echo(f"decay over {decay.steps} steps from step {decay.start}")
    if (folder / CHECKPOINT).is_file():
        age = time.time() - (folder / CHECKPOINT).stat().st_mtime
        click.echo(f"checkpoint {age / 60:.0f} minutes old")
    log = read_log(folder)
    if not log:
        click.echo("no steps logged yet")
        return
    last = log[-1]
    click.echo(
        f"step {last['step']}, {last['tokens'] / 1e6:.2f} M tokens, loss "
        f"{last['loss']:.4f} nats, {last['seconds'] / 3600:.2f} processor hours"
    )
    before = log[-_RECENT:][0]
    tokens = last["tokens"] - before["tokens"]
    if tokens:
        click.echo(f"{tokens / max(last['time'] - before['time'], 1):,.0f} tokens/s lately, "
                   f"{tokens / max(last['seconds'] - before['seconds'], 1):,.0f} "
                   "a processor second")  # fmt: skip
    checked = [entry for entry in log if "valid" in entry]
    if checked:
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in checked[-1]["valid"].items())
        click.echo(f"validation at step {checked[-1]['step']}: {losses}")
