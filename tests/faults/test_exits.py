"""However a script ends, it ends soon, with the right exit code, and says nothing that nobody asked for."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import pytest

from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.faults.children import ROOT
from tests.faults.exits import End

SOON_S = 10.0
"""The promise is three seconds; a machine that runs other tests meanwhile is given more."""


class Script(NamedTuple):
    """A script and its end.

    Attributes:
        code: What it does. "slow" rows are never answered.
        exits: Its exit code; negative for the signal that ends it.
        signals: What it is sent after it has said that it is ready, 0.3 s apart.
        prints: A pattern of all that it prints.
        says: A pattern of all that it writes to stderr.
    """

    code: str
    exits: int = 0
    signals: tuple[int, ...] = ()
    prints: str = ".*"
    says: str = ""


INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
TRACEBACK = r"Traceback \(most recent call last\):\n(?s:.*)"
SLOW = 'run = frame(3, "slow").llm.submit(Quick, "{text}", model=MODEL)\n'
PARSE_SLOW = 'frame(3, "slow").llm.parse(Quick, "{text}", model=MODEL)\n'
# Flushed: a fork would copy what is still in the buffer, and both processes would print it.
QUICK = 'print(frame().llm.parse(Quick, "{text}", model=MODEL)["word"].notna().sum(), flush=True)\n'
ON_WIRE = "while not run.progress().in_flight: time.sleep(0.005)\n"
STUCK = 'run = frame().llm.submit(Stuck, "{text}", model=MODEL)\nwait_until_stuck()\n'
TOOL = """
def act(query: str) -> str:
    stuck()
run = frame(1, "tool").llm.submit(Quick, "{text}", model=MODEL, tools=[act], run_tools=True)
wait_until_stuck()
"""
READY_SOON = "threading.Thread(target=ready_on_wire, daemon=True).start()\n"
READY_STUCK = "threading.Thread(target=ready_when_stuck, daemon=True).start()\n"
JOB = 'run = frame().llm.submit(Quick, "{text}", model=BATCH, mode="batch", confirm=False, wait=False)\n'
IN_THREAD = """
def work():
    print(frame().llm.parse(Quick, "{text}", model=MODEL)["word"].notna().sum(), flush=True)
"""
IN_DAEMON = "\nat_last.append(lambda: time.sleep(0.5))\nwait_until_on_wire()\n"
SESSION = """
session = pllm.resume_directory("program", strategy="batch", model=BATCH, confirm=False)
"""
# Python's own line from 3.12 on, at any fork of a process with threads; nothing of ours is added to it.
FORKED = (
    r"script\.py:\d+: DeprecationWarning: This process \(pid=\d+\) is multi-threaded, "
    r"use of fork\(\) may lead to deadlocks in the child\.\n"
    if sys.version_info >= (3, 12)
    else ""
)
# CPython before 3.12.3 starts no thread once the main thread has ended, although others still run (gh-113964), and
# none for what is called at exit.
NO_LATE_THREADS = (3, 12) <= sys.version_info[:3] < (3, 12, 3)
# They ask for the first time while the main thread ends, or after it.
ASK_LATE = re.compile(r"threading\.Thread\(target=(?!.*daemon=True)|ThreadPoolExecutor|@atexit\.register")
PAUSED = r"\S+: submitted 1 call in 1 batch job \([^)]*\); awaiting 1 call in 1 batch job\.\nRun the program again.*\n"

SCRIPTS = {
    # Its main thread's code ends.
    "after_parse": Script(QUICK, prints="3\n"),
    "while_a_run_goes_on": Script(SLOW),
    "while_calls_are_on_the_wire": Script(SLOW + ON_WIRE),
    "while_answers_arrive": Script('run = frame(3000).llm.submit(Quick, "{text}", model=MODEL)\ntime.sleep(0.3)'),
    "while_two_runs_go_on": Script(SLOW + SLOW.replace("3,", "4,")),
    "in_sync_mode": Script('run = frame(3, "slow").llm.submit(Quick, "{text}", model=MODEL, mode="sync")'),
    "with_samples_under_way": Script(SLOW.replace("model=MODEL", "model=MODEL, samples=3") + ON_WIRE),
    "with_a_pack_under_way": Script(SLOW.replace("model=MODEL", "model=MODEL, pack=2") + ON_WIRE),
    "after_cancel": Script(SLOW + ON_WIRE + "run.cancel()"),
    "after_shutdown": Script(SLOW + ON_WIRE + "from pllm_notebook import engine\nengine.shutdown()"),
    "with_a_handle_that_was_dropped": Script(SLOW + "del run\nimport gc\ngc.collect()"),
    "with_a_question_at_exit": Script("@atexit.register\ndef last():\n    " + QUICK, prints="3\n"),
    "with_the_cache_read_at_exit": Script(QUICK + "@atexit.register\ndef last():\n    " + QUICK, prints="3\n3\n"),
    "with_an_older_run_retried": Script(QUICK + "pllm.runs()[-1].retry()"),
    "with_a_simulator_of_its_own": Script(
        'pllm.configure(sim={"latency_s": 0.01})\nout = frame().llm.parse(Quick, "{text}", model="sim:openai")'
    ),
    "with_an_answers_function_that_is_stuck": Script(
        'pllm.configure(sim={"answers": stuck})\n'
        'run = frame().llm.submit(Quick, "{text}", model="sim:openai")\nwait_until_stuck()'
    ),
    # By an exception or an exit.
    "by_an_exception": Script(SLOW + ON_WIRE + 'raise ValueError("made up")', 1, says=TRACEBACK + "made up\n"),
    "by_sys_exit": Script(SLOW + ON_WIRE + "sys.exit(3)", 3),
    "by_sys_exit_with_words": Script(SLOW + 'sys.exit("enough")', 1, says="enough\n"),
    "by_os_exit": Script(SLOW + ON_WIRE + "os._exit(4)", 4),
    "by_sys_exit_in_a_validator": Script(
        "class Out(BaseModel):\n    word: str\n    @field_validator('word')\n    @classmethod\n"
        "    def look(cls, value):\n        sys.exit(9)\n"
        'run = frame().llm.submit(Out, "{text}", model=BATCH)\nrun.wait()\nprint(run.progress().failed)',
        prints="3\n",
    ),
    # By a signal.
    "by_sigterm": Script(SLOW + ON_WIRE + "ready()\nrun.result()", -TERM, (TERM,)),
    "by_sighup": Script(SLOW + ON_WIRE + "ready()\nrun.result()", -HUP, (HUP,)),
    "by_sigterm_that_is_handled": Script(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n" + SLOW + ON_WIRE + "ready()\nrun.result()", 7, (TERM,)
    ),
    "by_an_interrupt": Script(READY_SOON + PARSE_SLOW, -INT, (INT,), says=TRACEBACK + "KeyboardInterrupt.*\n"),
    "by_an_interrupt_that_is_taken": Script(
        READY_SOON + "try:\n    " + PARSE_SLOW + "except KeyboardInterrupt:\n    sys.exit(130)", 130, (INT,)
    ),
    "by_two_interrupts": Script(
        READY_SOON + "try:\n    " + PARSE_SLOW + "except KeyboardInterrupt:\n    time.sleep(1)",
        -INT,
        (INT, INT),
        says=TRACEBACK + "KeyboardInterrupt.*\n",
    ),
    "by_an_interrupt_outside_of_a_call": Script(
        SLOW
        + ON_WIRE
        + "try:\n    ready()\n    while True:\n        time.sleep(0.01)\nexcept KeyboardInterrupt:\n    sys.exit(130)",
        130,
        (INT,),
    ),
    # In threads.
    "with_a_thread_that_asks": Script(IN_THREAD + "threading.Thread(target=work).start()", prints="3\n"),
    "with_a_thread_that_asks_late": Script(
        IN_THREAD + "threading.Thread(target=lambda: (time.sleep(0.5), work())).start()", prints="3\n"
    ),
    "with_a_thread_that_awaits": Script(
        "async def main():\n    out = await frame().llm.aparse(Quick, '{text}', model=MODEL)\n"
        "    print(out['word'].notna().sum())\nthreading.Thread(target=lambda: asyncio.run(main())).start()",
        prints="3\n",
    ),
    # Each lingers at exit when its runs have been stopped: a thread that is woken then has the time to print.
    "with_a_daemon_thread_that_asks": Script(
        "threading.Thread(target=lambda: frame(3, 'slow').llm.parse(Quick, '{text}', model=MODEL), daemon=True).start()"
        + IN_DAEMON
    ),
    "with_a_daemon_thread_that_awaits": Script(
        "async def main():\n    await frame(3, 'slow').llm.aparse(Quick, '{text}', model=MODEL)\n"
        "threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()" + IN_DAEMON
    ),
    "with_a_daemon_thread_that_is_joined_at_exit": Script(
        "def work():\n    frame(3, 'slow').llm.parse(Quick, '{text}', model=MODEL)\n"
        "asking = threading.Thread(target=work, daemon=True)\nat_last.append(asking.join)\nasking.start()" + IN_DAEMON
    ),
    "with_a_daemon_thread_of_a_program": Script(
        SESSION.replace('"batch"', '"async"')
        + "threading.Thread(target=lambda: session.agent('a').ask_llm('slow').resolve(), daemon=True).start()"
        + IN_DAEMON
    ),
    "with_a_daemon_thread_that_awaits_a_program": Script(
        SESSION.replace('"batch"', '"async"') + "async def main():\n    await session.agent('a').ask_llm('slow')\n"
        "threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()" + IN_DAEMON
    ),
    "with_a_pool_of_threads": Script(
        IN_THREAD + "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(2).submit(work)",
        prints="3\n",
    ),
    "with_a_thread_that_runs_tools": Script(
        "def act(query: str) -> str:\n    return 'found'\n"
        "def work():\n"
        "    print(frame(2, 'tool').llm.parse(Quick, '{text}', model=MODEL, tools=[act], run_tools=True)['word'][0])\n"
        "threading.Thread(target=work).start()",
        prints="done\n",
    ),
    "with_a_list_of_prompts_in_a_thread": Script(
        "from pllm_notebook import LLMConfig, LLMPromptContext, ParallelAIUtilities\n"
        "threading.Thread(target=lambda: print(len(frame().llm.complete('{text}', model=MODEL)))).start()",
        prints="3\n",
    ),
    # With asyncio.
    "with_a_task_that_is_cancelled": Script(
        "async def main():\n"
        "    task = asyncio.ensure_future(frame(3, 'slow').llm.aparse(Quick, '{text}', model=MODEL))\n"
        "    await asyncio.sleep(0.4)\nasyncio.run(main())"
    ),
    "with_a_run_begun_in_asyncio": Script("async def main():\n    " + SLOW + "asyncio.run(main())"),
    "with_an_exception_in_asyncio": Script(
        "async def main():\n    " + SLOW + "    raise ValueError('made up')\nasyncio.run(main())",
        1,
        says=TRACEBACK + "made up\n",
    ),
    # In other processes.
    "with_a_spawned_child": Script(
        "import multiprocessing\nfrom tests.faults import exits\n"
        "with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "    print(pool.apply(exits.ask_in_child, [dict(progress=False, servers=SERVERS, cache_dir='cache')]))",
        prints="3\n",
    ),
    "with_a_forked_child": Script(
        QUICK + "child = os.fork()\nif not child:\n    print(ask_in_child(), flush=True)\n    sys.exit(5)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
        prints="3\n3\n5\n",
        says=FORKED,
    ),
    "with_a_child_forked_while_a_run_goes_on": Script(
        SLOW + ON_WIRE + "child = os.fork()\nif not child:\n    sys.exit(5)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))",
        prints="5\n",
        says=FORKED,
    ),
    "with_a_pool_of_processes": Script(
        QUICK + "import multiprocessing\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n    print(pool.apply(ask_in_child))",
        prints="3\n3\n",
    ),
    "under_xdist": Script(
        "Path('test_asking.py').write_text('''\n"
        "import pytest\nfrom tests.faults import exits\nimport pllm_notebook as pllm\n"
        "@pytest.mark.parametrize('n', range(2))\n"
        "def test_asking(n):\n"
        "    pllm.configure(progress=False, servers={\"here\": %r}, cache_dir='cache')\n"
        "    exits.frame(3, 'slow').llm.submit(exits.Quick, '{text}', model=exits.MODEL)\n"
        "    assert exits.ask_in_child() == 3\n'''\n"
        "    % SERVERS['here'])\n"
        "import subprocess\n"
        "done = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-n', '1', '-p', 'no:cacheprovider', '-p',"
        " 'no:randomly', '--rootdir', '.', '-c', '/dev/null', 'test_asking.py'], env={**os.environ, 'PYTHONPATH':"
        " ROOT}, stdin=subprocess.DEVNULL, capture_output=True, text=True)\n"
        "print(done.stdout, done.stderr)\nsys.exit(done.returncode)",
        prints="(?s:.*)2 passed(?s:.*)",
    ),
    # With code of the caller's that never returns.
    "with_a_validator_that_is_stuck": Script(STUCK),
    "with_a_stuck_validator_by_sys_exit": Script(STUCK + "sys.exit(3)", 3),
    "with_a_stuck_validator_by_an_interrupt": Script(
        READY_STUCK + "try:\n    frame().llm.parse(Stuck, '{text}', model=MODEL)\n"
        "except KeyboardInterrupt:\n    sys.exit(130)",
        130,
        (INT,),
    ),
    "with_a_stuck_validator_of_kept_answers": Script(QUICK + STUCK),
    "with_a_tool_that_is_stuck": Script(TOOL),
    "with_a_stuck_tool_by_an_exception": Script(TOOL + "raise ValueError('made up')", 1, says=TRACEBACK + "made up\n"),
    "with_an_async_tool_that_is_stuck": Script(TOOL.replace("def", "async def")),
    "with_an_async_tool_that_is_stuck_in_a_thread": Script(
        TOOL.replace("def", "async def").replace("stuck()", "await asyncio.to_thread(stuck)", 1)
    ),
    "with_a_decide_function_that_is_stuck": Script(
        "run = frame().llm.submit(Quick, '{text}', model=MODEL, samples=2, decide=stuck)\nwait_until_stuck()"
    ),
    # With a batch that is not there yet.
    "with_a_batch_pending": Script(JOB + "run.result()"),
    "with_a_batch_being_submitted": Script(JOB),
    "with_a_batch_that_is_waited_for": Script(JOB.replace("wait=False", "wait=True") + "time.sleep(0.5)"),
    "with_a_batch_by_an_interrupt": Script(
        JOB.replace("wait=False", "wait=True") + "ready()\ntry:\n    run.result()\n"
        "except KeyboardInterrupt:\n    sys.exit(130)",
        130,
        (INT,),
    ),
    "with_a_program_that_pauses": Script(
        SESSION + "with session, session.agent('a') as agent:\n    print(agent.ask_llm('hello').resolve())\n",
        prints=PAUSED,
    ),
    "with_a_program_that_pauses_without_with": Script(
        SESSION + "print(session.agent('a').ask_llm('hello').resolve())\n", prints=PAUSED
    ),
    "with_an_agent_that_pauses_alone": Script(
        SESSION + "with session.agent('a') as agent:\n    print(agent.ask_llm('hello').resolve())\n", prints=PAUSED
    ),
    "with_a_program_that_pauses_in_asyncio": Script(
        SESSION + "async def main():\n    print(await session.agent('a').ask_llm('hello'))\nasyncio.run(main())",
        prints=PAUSED,
    ),
    "with_a_program_that_pauses_in_a_thread": Script(
        SESSION + "threading.Thread(target=lambda: session.agent('a').ask_llm('hello').resolve()).start()",
        prints=PAUSED,
    ),
    "with_a_program_that_goes_on": Script(
        SESSION.replace('"batch"', '"async"') + "reply = session.agent('a').ask_llm('slow')"
    ),
}


@pytest.fixture(scope="module")
def ends(
    request: pytest.FixtureRequest, module_sim: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, End]:
    """How each script ended that a test of this session asks about."""
    asked = {
        str(item.callspec.params["name"]) for item in request.session.items if request.fixturename in item.fixturenames
    }
    opened = threading.Event()

    def answer(request: SimRequest) -> Any:
        text = request.messages[0][1]
        if "slow" in text:
            opened.wait()
        if "tool" in text and not request.results:
            return SimAnswer.tool_calls([("act", {"query": "any"})])
        return {"word": "done"}

    module_sim.set(answers=answer, batch_s=3600)
    directory = tmp_path_factory.mktemp("exits")
    job = {
        "address": module_sim.base_url("compatible"),
        "directory": str(directory),
        "soon_s": SOON_S,
        "scripts": [(name, script.code, script.signals) for name, script in SCRIPTS.items() if name in asked],
    }
    env = {**os.environ, "OPENAI_API_KEY": "any-key", "OPENAI_BASE_URL": module_sim.base_url("openai")}
    env.pop("PYTHONUNBUFFERED", None)  # what a script prints is buffered, as it is for a person
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.exits", json.dumps(job)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        timeout=2400,
        check=True,
    )
    opened.set()
    return {name: End(*end) for name, end in json.loads(done.stdout).items()}


@pytest.mark.sample(20)
@pytest.mark.timeout(2500)
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_ends_soon_with_its_code_and_in_silence(ends: dict[str, End], name: str) -> None:
    script, end = SCRIPTS[name], ends[name]
    if NO_LATE_THREADS and ASK_LATE.search(script.code):
        pytest.skip("this Python starts no thread once the main thread has ended (gh-113964)")

    assert (end.code, end.errors) == (script.exits, end.errors)
    assert re.fullmatch(script.says, end.errors), end.errors
    printed = end.out.replace("ready\n", "")
    assert re.fullmatch(script.prints, printed, re.DOTALL), printed
    assert end.seconds < SOON_S * end.waiting, f"its main thread's code ended after {end.main_s:.1f} s"
