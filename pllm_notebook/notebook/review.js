// A review by keyboard. One module without a build, for every host of anywidget. Data is set as text, never as HTML.

const KEYS = "Enter accepts · 1–9 choose · e types a value · s skips · u undoes · n writes a note";

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function render({ model, el }) {
  const view = element("div", undefined, "pllm-review");
  view.tabIndex = 0;
  view.setAttribute("role", "group");
  view.setAttribute("aria-label", "Review of answers");
  el.append(view);
  let state = model.get("state");

  const send = (message) => model.send({ at: state.at, ...message });

  function fact(table, name, text, strong, pieces = []) {
    const line = element("tr");
    const cell = element("td", pieces.length ? "" : text, strong ? "pllm-review-proposed" : "");
    cell.dir = "auto";
    for (const [piece, field] of pieces) cell.append(field ? element("mark", piece) : piece);
    line.append(element("th", name), cell);
    table.append(line);
  }

  function edit(what, value, send_it) {
    const input = element("input");
    input.type = "text";
    input.value = value;
    input.setAttribute("aria-label", what);
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") {
        event.preventDefault();
        view.focus();
        send_it(input.value);
        draw();
      } else if (event.key === "Escape") {
        view.focus();
        draw();
      }
    });
    view.querySelector(".pllm-review-edit").replaceChildren(element("label", `${what} `), input);
    input.focus();
    input.select();
  }

  function draw() {
    const focused = view.contains(document.activeElement);
    view.dataset.at = String(state.at);
    view.dataset.done = String(state.done);
    view.replaceChildren();
    const head = element("p", `${Math.min(state.at + 1, state.total)} of ${state.total}`, "pllm-review-head");
    head.append(element("span", ` · ${state.labelled} labelled by ${state.by || "you"}`, "pllm-review-weak"));
    head.setAttribute("aria-live", "polite");
    view.append(head);
    if (state.done) {
      view.append(element("p", "All are done. Each decision is a label: pllm.labels() lists them."));
    } else {
      const table = element("table");
      for (const [name, text, pieces] of state.row) fact(table, name, text, false, pieces);
      for (const quote of state.lost) fact(table, "quoted, and not in the row", quote);
      for (const [name, text] of state.others) fact(table, name, text);
      const sure = state.confidence === null ? "" : ` (confidence ${state.confidence.toFixed(2)})`;
      fact(table, state.field, `${state.proposed}${sure}`, true);
      view.append(table);
      const choices = element("p", undefined, "pllm-review-choices");
      state.choices.forEach((choice, at) => {
        const button = element("button", at < 9 ? `${at + 1} ${choice}` : choice);
        button.setAttribute("aria-pressed", String(choice === state.proposed));
        button.addEventListener("click", () => send({ do: "choose", value: choice }));
        choices.append(button);
      });
      view.append(choices);
      if (state.note) view.append(element("p", `Note: ${state.note}`));
    }
    view.append(element("p", undefined, "pllm-review-edit"));
    if (state.problem) view.append(element("p", state.problem, "pllm-review-problem"));
    view.append(element("p", KEYS, "pllm-review-weak"));
    if (focused) view.focus();
  }

  view.addEventListener("keydown", (event) => {
    if (event.target !== view && event.key === "Enter") return event.stopPropagation();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const number = Number(event.key);
    // The notebook has keys of its own: u and s must not reach it.
    event.stopPropagation();
    if (event.key === "Tab") return;
    if (event.key === "u") send({ do: "undo" });
    else if (state.done) return;
    else if (event.key === "Enter") send({ do: "accept" });
    else if (event.key === "s") send({ do: "skip" });
    else if (event.key === "n") edit("Note", state.note, (text) => send({ do: "note", text }));
    else if (event.key === "e") edit(state.field, state.proposed, (value) => send({ do: "choose", value }));
    else if (number >= 1 && number <= state.choices.length) send({ do: "choose", value: state.choices[number - 1] });
    else return;
    event.preventDefault();
  });
  const changed = () => {
    state = model.get("state");
    draw();
  };
  model.on("change:state", changed);
  draw();
  return () => model.off("change:state", changed);
}

export default { render };
