"""A real kernel to drive: cells in, replies and outputs out, as a notebook's frontend sees them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from tests.forked import Forked

VIEW = "application/vnd.jupyter.widget-view+json"

# Longer than anything here takes; a test that waits this long has failed.
PATIENCE_S = 180.0


@dataclass
class Cell:
    """One executed cell: its reply, and its outputs as they stand in the notebook."""

    msg_id: str
    reply: dict[str, Any] = field(default_factory=dict)
    idle: bool = False
    outputs: list[dict[str, Any]] = field(default_factory=list)
    streams: dict[str, str] = field(default_factory=lambda: {"stdout": "", "stderr": ""})

    @property
    def status(self) -> str:
        return str(self.reply.get("status", "pending"))

    @property
    def error(self) -> str:
        """The traceback as a person sees it, "" for none."""
        return "\n".join(self.reply.get("traceback") or [])

    @property
    def texts(self) -> list[str]:
        """The plain text of every output, in order."""
        return [output["data"].get("text/plain", "") for output in self.outputs]

    @property
    def result(self) -> str:
        """The plain text of what the cell gave back, "" for nothing."""
        return next((o["data"]["text/plain"] for o in self.outputs if o["type"] == "execute_result"), "")

    @property
    def stdout(self) -> str:
        return self.streams["stdout"]

    def views(self) -> list[str]:
        """The ids of widgets that are shown in this cell."""
        return [output["data"][VIEW]["model_id"] for output in self.outputs if VIEW in output["data"]]


class ForkedKernel(LocalProvisioner):
    """Kernels that begin with pandas and this package imported; `tests/test_quickstart.py` starts real ones."""

    async def launch_kernel(self, cmd: list[str], **words: Any) -> Any:
        python, *program = cmd
        self.process = Forked(
            program,
            words["env"],
            cwd=words.get("cwd", os.getcwd()),
            piped=False,
            python=python,
            imported=["tests.notebook.imported"],
        )  # type: ignore[assignment]
        self.pid = self.pgid = self.process.pid
        self.cwd = words.get("cwd", os.getcwd())
        return self.connection_info


_FORKED = EntryPoint("forked", f"{__name__}:ForkedKernel", "jupyter_client.kernel_provisioners")


def specs_in(folder: Path) -> KernelSpecManager:
    """Make "tested" the kernel of `PLLM_TEST_KERNEL_PYTHON`, or of this interpreter."""
    python = os.environ.get("PLLM_TEST_KERNEL_PYTHON", sys.executable)
    spec = folder / "kernels" / "tested"
    spec.mkdir(parents=True)
    about = {
        "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "tested",
        "language": "python",
        "metadata": {"kernel_provisioner": {"provisioner_name": _FORKED.name}},
    }
    (spec / "kernel.json").write_text(json.dumps(about))
    KernelProvisionerFactory.instance().provisioners[_FORKED.name] = _FORKED
    return KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)


class Kernel:
    """A running kernel and what its cells brought."""

    def __init__(self, folder: Path, setup: str) -> None:
        self._folder, self._setup = folder, setup
        self._specs = specs_in(folder)
        self._begin()

    def _begin(self) -> None:
        # A cache and a profile of its own, and no key of whoever runs the tests.
        # No browser looks for a view's place here, as in VS Code, which has this variable.
        keys = {name: "" for name in os.environ if name.endswith("_API_KEY") or name.startswith("PLLM_")}
        own = {"IPYTHONDIR": str(self._folder / "ipython"), "PLLM_CACHE_DIR": str(self._folder / "cache")}
        self.manager = KernelManager(kernel_name="tested", kernel_spec_manager=self._specs)
        self.manager.start_kernel(env=os.environ | {"VSCODE_PID": "1"} | keys | own, cwd=str(self._folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE_S)
        self._take_anew()
        self.features = self.ask("shell", "kernel_info_request", {}).get("supported_features", [])
        self.ok(self._setup)

    def _take_anew(self) -> None:
        self._cells: dict[str, Cell] = {}
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._replies: dict[str, dict[str, Any]] = {}
        self.comms: dict[str, dict[str, Any]] = {}

    def restart(self) -> None:
        """Begin anew in another process, with the same cache."""
        self.close()
        self._begin()

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    # Cells.

    def start(self, code: str) -> Cell:
        """Send a cell and give it at once."""
        msg_id = self.client.execute(code, allow_stdin=False)
        cell = self._cells[msg_id] = Cell(msg_id)
        return cell

    def run(self, code: str) -> Cell:
        """Run a cell to its end, which may be an error."""
        return self.finish(self.start(code))

    def ok(self, code: str) -> Cell:
        """Run a cell that must succeed."""
        cell = self.run(code)
        assert cell.status == "ok", cell.error or cell.reply
        return cell

    def finish(self, cell: Cell) -> Cell:
        self.until(lambda: bool(cell.reply) and cell.idle)
        return cell

    def value(self, expression: str) -> Any:
        """Evaluate an expression in the kernel; what JSON can carry."""
        return json.loads(self.ok(f"import json as _json; print(_json.dumps({expression}))").stdout)

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def until(self, condition: Callable[[], bool]) -> None:
        """Read what the kernel says until *condition* holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "The kernel did not answer"
            for channel, take in (
                (self.client.iopub_channel, self._take_output),
                (self.client.shell_channel, self._take_reply),
                (self.client.control_channel, self._take_reply),
            ):
                while channel.msg_ready():
                    take(channel.get_msg(timeout=1))
            time.sleep(0.005)

    def ask(self, channel: str, kind: str, content: dict[str, Any], **header: Any) -> dict[str, Any]:
        """Send a request on "shell" or "control" and give the reply's content."""
        msg_id = self.send(channel, kind, content, **header)
        self.until(lambda: msg_id in self._replies)
        reply: dict[str, Any] = self._replies[msg_id]
        return reply

    def send(self, channel: str, kind: str, content: dict[str, Any], **header: Any) -> str:
        message = self.client.session.msg(kind, content)
        message["header"].update(header)
        getattr(self.client, f"{channel}_channel").send(message)
        return str(message["header"]["msg_id"])

    # Widgets, as a browser knows them.

    def widget(self, model_id: str) -> dict[str, Any]:
        """Give a widget's state."""
        return self.comms[model_id]

    def inside(self, model_id: str) -> list[dict[str, Any]]:
        """Give the states of a widget and of all that it holds."""
        state = self.comms[model_id] | {"id": model_id}
        children = [child.removeprefix("IPY_MODEL_") for child in state.get("children", [])]
        return [state, *(found for child in children for found in self.inside(child))]

    def click(self, model_id: str, **header: Any) -> None:
        """Click a button, as ipywidgets' frontend says it."""
        data = {"method": "custom", "content": {"event": "click"}}
        self.send("shell", "comm_msg", {"comm_id": model_id, "data": data}, **header)

    def do(self, model_id: str, word: str, message: dict[str, Any] | None = None, **header: Any) -> None:
        """Send a word of a run's view, as its module does."""
        data = {"method": "custom", "content": {"do": word, **(message or {})}}
        self.send("shell", "comm_msg", {"comm_id": model_id, "data": data}, **header)

    def _take_reply(self, message: dict[str, Any]) -> None:
        parent = message["parent_header"].get("msg_id", "")
        self._replies[parent] = message["content"]
        if parent in self._cells and message["msg_type"] == "execute_reply":
            self._cells[parent].reply = message["content"]

    def _take_output(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        cell = self._cells.get(message["parent_header"].get("msg_id", ""))
        if kind == "comm_open":
            self.comms[content["comm_id"]] = dict(content["data"].get("state", {}))
        elif kind == "comm_msg":
            state = self.comms[content["comm_id"]]
            state.update(content["data"].get("state", {}))
            said = content["data"].get("content", {})
            state.get("snapshot", {}).update(said.get("changes", {}))
            state.update({name: said[name] for name in ("opened",) if name in said})
        elif kind == "comm_close":
            self.comms.pop(content["comm_id"], None)
        elif kind == "update_display_data":
            for output in self._displays.get(content["transient"]["display_id"], []):
                output["data"] = content["data"]
        elif cell is None:
            return
        elif kind == "status":
            cell.idle = content["execution_state"] == "idle"
        elif kind == "stream":
            cell.streams[content["name"]] += content["text"]
        elif kind in ("display_data", "execute_result"):
            output = {"type": kind, "data": content["data"]}
            cell.outputs.append(output)
            display_id = content.get("transient", {}).get("display_id")
            if display_id is not None:
                self._displays.setdefault(display_id, []).append(output)
