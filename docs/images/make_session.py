"""Remake session.png: a program against the simulator in JupyterLab, photographed while it goes on.

    pip install jupyterlab selenium          # and chromium with chromium-driver
    python docs/images/make_session.py       # writes session.png beside this file

Nothing is sent to a provider and no key is needed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from make_progress import browser, lab, picture
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

HERE = Path(__file__).parent

SETUP = """\
import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer
%load_ext pllm_notebook

def answers(request):
    if "Name" in request.prompt:
        return "\\n".join(f"enzyme {i}" for i in range(64))
    return SimAnswer.refusal() if "enzyme 13" in request.prompt else request.prompt.split("<")[0] + "enzyme"

pllm.configure(sim={"latency_s": 1.5, "latency_sigma": 0.5, "answers": answers})
with pllm.resume_directory("enzymes", model="sim:openai") as session:
    session.resolve_all([session.agent("judge").ask_llm("Why is it one?", f"enzyme {i}") for i in range(8)])"""

RUN = """\
%%pllm_session enzymes --model sim:openai --errors coerce --agent judge
teams = agent.ask_llm("Name 64 enzymes, one a line.").resolve().splitlines()
critic = session.agent("critic")
asked = [agent.ask_llm("Why is it one?", team) for team in teams]
asked += [critic.ask_llm("Why is it none?", team) for team in teams[:32]]
agent.print(len(session.resolve_all(asked)), "answers")"""


def main() -> None:
    """Take the pictures."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, default=HERE / "session.png", help="the picture of the running cell")
    words.add_argument("--end", type=Path, help="also a picture of the cell when it has ended")
    words.add_argument("--dark", action="store_true", help="in JupyterLab's dark theme")
    words.add_argument("--after", type=float, default=2.6, help="seconds into the program")
    given = words.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        lab(Path(folder), (SETUP, RUN), dark=given.dark) as address,
        browser() as driver,
    ):
        driver.get(f"{address}&reset")
        wait = WebDriverWait(driver, 60)
        wait.until(lambda d: len(d.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")) == 2)
        wait.until(
            lambda d: d.execute_script("return !!window.jupyterapp && !!document.querySelector('.jp-NotebookPanel')")
        )
        time.sleep(3)
        driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output .widget-html"))
        time.sleep(given.after)
        picture(driver, given.out)
        if given.end:
            wait.until(lambda d: not d.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output .widget-html"))
            time.sleep(1)
            picture(driver, given.end)


if __name__ == "__main__":
    main()
