// A review by keyboard, above what has been decided. After placed.js. Data is set as text, never as HTML.

function keysOf(state) {
  const choices = state.choices?.length ? [`1–${Math.min(9, state.choices.length)} choose`] : [];
  const undo = state.can_undo ? ["u undoes"] : [];
  return [...(state.done ? [] : ["Enter accepts", ...choices, "e types a value", "s skips", "n writes a note"]), ...undo].join(" · ");
}

function build(model) {
  const view = element("div", undefined, "pllm-panel pllm-review mathjax_ignore tex2jax_ignore");
  view.tabIndex = 0;
  view.setAttribute("role", "group");
  view.setAttribute("aria-label", "Review of answers");
  const head = element("p", undefined, "pllm-review-head");
  head.setAttribute("role", "status");
  const item = element("div");
  const edited = element("p", undefined, "pllm-review-edit");
  const problem = element("p", undefined, "pllm-review-problem");
  problem.setAttribute("role", "alert");
  const keys = element("p", undefined, "pllm-review-weak");
  view.append(head, item, edited, problem, keys);
  let state = model.get("state");

  const send = (message) => model.send({ at: state.at, ...message });

  function fact(table, name, text, strong, pieces = []) {
    const line = element("tr");
    const cell = element("td", pieces.length ? "" : text, strong ? "pllm-review-proposed" : "");
    cell.dir = "auto";
    for (const [piece, field] of pieces) cell.append(field ? element("mark", piece) : piece);
    const title = element("th", name);
    title.scope = "row";
    line.append(title, cell);
    table.append(line);
  }

  function button(text, says, act, pressed = null) {
    const made = element("button", text);
    made.type = "button";
    made.title = says;
    if (pressed !== null) made.setAttribute("aria-pressed", String(pressed));
    // A click leaves the keys to the view, where they go on.
    made.addEventListener("click", () => {
      view.focus({ preventScroll: true });
      act();
    });
    return made;
  }

  function edit(what, value, send_it) {
    const input = element("input");
    input.type = "text";
    input.value = value;
    input.setAttribute("aria-label", what);
    const leave = () => {
      edited.replaceChildren();
      view.focus({ preventScroll: true });
    };
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter") {
        event.preventDefault();
        send_it(input.value);
        leave();
      } else if (event.key === "Escape") leave();
    });
    edited.replaceChildren(element("label", `${what} `), input, element("span", " Enter saves, Escape leaves it", "pllm-review-weak"));
    input.focus();
    input.select();
  }

  const acts = {
    accept: () => send({ do: "accept" }),
    other: () => edit(state.field, state.proposed, (value) => send({ do: "choose", value })),
    skip: () => send({ do: "skip" }),
    undo: () => send({ do: "undo" }),
    note: () => edit("Note", state.note, (text) => send({ do: "note", text })),
  };

  function draw() {
    view.dataset.at = String(state.at);
    view.dataset.done = String(state.done);
    head.replaceChildren(`${Math.min(state.at + 1, state.total)} of ${state.total}`);
    head.append(element("span", ` · ${state.labelled} labelled by ${state.by || "you"}`, "pllm-review-weak"));
    if (state.simulated) head.append(" ", element("span", "SIMULATED", "pllm-review-simulated"));
    const parts = [];
    const choices = element("p", undefined, "pllm-review-choices");
    const actions = element("p", undefined, "pllm-review-actions");
    if (state.done) {
      parts.push(element("p", "All are done. Each decision is a label: pllm.labels() lists them."));
    } else {
      const table = element("table");
      for (const [name, text, pieces] of state.row) fact(table, name, text, false, pieces);
      for (const quote of state.lost) fact(table, "quoted, and not in the row", quote);
      for (const [name, text] of state.others) fact(table, name, text);
      const sure = state.confidence === null ? "" : ` (confidence ${state.confidence.toFixed(2)})`;
      fact(table, state.field, `${state.proposed || "no value"}${sure}`, true);
      state.choices.forEach((choice, at) => {
        const says = `${state.field} is ${choice}`;
        choices.append(button(at < 9 ? `${at + 1} ${choice}` : choice, says, () => send({ do: "choose", value: choice }), choice === state.proposed));
      });
      actions.append(
        button("Accept", "The proposed value is right (Enter)", acts.accept),
        button("Other value", "Type the right value (e)", acts.other),
        button("Skip", "Decide nothing (s)", acts.skip),
        button("Note", "Write a note that is stored with the label (n)", acts.note),
      );
      parts.push(table, choices);
    }
    if (state.can_undo) actions.append(button("Undo", "Take the last decision back (u)", acts.undo));
    parts.push(actions);
    if (state.note) parts.push(element("p", `Note: ${state.note}`));
    item.replaceChildren(...parts);
    problem.textContent = state.problem ?? "";
    keys.textContent = keysOf(state);
  }

  view.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const number = Number(event.key);
    const { done, choices } = state;
    // The notebook has keys of its own: u and s must not reach it.
    event.stopPropagation();
    if (event.key === "Tab" || (event.target !== view && ["Enter", " "].includes(event.key))) return;
    if (event.key === "u") acts.undo();
    else if (done) return;
    else if (event.key === "Enter") acts.accept();
    else if (event.key === "s") acts.skip();
    else if (event.key === "n") acts.note();
    else if (event.key === "e") acts.other();
    else if (number >= 1 && number <= choices.length) send({ do: "choose", value: choices[number - 1] });
    else return;
    event.preventDefault();
  });
  model.on("change:state", () => {
    const moved = model.get("state").at !== state.at;
    state = model.get("state");
    if (moved) edited.replaceChildren();
    const focused = view.contains(view.getRootNode().activeElement);
    draw();
    if (focused && !edited.firstChild) view.focus({ preventScroll: true });
  });
  draw();

  function end() {
    view.classList.add("pllm-review-gone");
    keys.textContent = "The kernel is gone; each decision is stored. Run the cell again to go on.";
  }

  return { root: view, enter: (place) => place.prepend(view), end };
}

export default placed("review", build);
