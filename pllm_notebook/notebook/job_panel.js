// Buttons above the table of `pllm.jobs()`: each carries out a command on a job. After placed.js.

const JOBLESS = new Set(["refresh", "fetch"]);

function build(model) {
  const root = element("div", undefined, "pllm-panel");
  const row = element("div", undefined, "pllm-panel-row pllm-job-buttons");
  const select = element("select");
  select.setAttribute("aria-label", "Job");
  const buttons = model.get("commands").map(([word, label, meaning]) => {
    const made = element("button", label);
    made.type = "button";
    made.title = meaning;
    made.addEventListener("click", () => model.send({ do: word, job: JOBLESS.has(word) ? "" : select.value }));
    return made;
  });
  row.append(...buttons.slice(0, JOBLESS.size), select, ...buttons.slice(JOBLESS.size));
  // Another job: what the first click on a priced command asked was about the one before.
  select.addEventListener("change", () => model.send({ do: "choose", job: select.value }));
  const said = element("div", undefined, "pllm-panel-said");
  said.setAttribute("role", "status");
  root.append(row, said);
  const show = () => {
    said.textContent = model.get("said");
  };
  const list = () => {
    const chosen = select.value;
    const names = model.get("names");
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(chosen)) select.value = chosen;
  };
  model.on("change:said", show);
  model.on("change:names", list);
  show();
  list();
  return { root, enter: (place) => place.prepend(root) };
}

export default placed("jobs", build);
