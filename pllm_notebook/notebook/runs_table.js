// Buttons beside the lines of `pllm.runs()`: each opens its run below the table. After placed.js.

function button(model, run, word) {
  const made = element("button", word, "pllm-open-run");
  made.type = "button";
  made.setAttribute("aria-label", `Open run ${run}`);
  made.addEventListener("click", () => model.send({ do: "open", run }));
  return made;
}

function build(model) {
  const root = element("div");
  root.setAttribute("role", "status");
  const show = () => {
    root.textContent = model.get("problem");
  };
  model.on("change:problem", show);
  show();

  function enter(place) {
    place.append(root);
    const table = place.querySelector("table");
    if (table === null) {
      for (const run of model.get("runs")) root.before(button(model, run, `Open ${run}`), " ");
      return;
    }
    table.querySelector("thead tr").prepend(element("td"));
    const lines = table.querySelectorAll("tbody tr");
    model.get("runs").forEach((run, at) => {
      const cell = element("td");
      cell.append(button(model, run, "Open"));
      lines[at]?.prepend(cell);
    });
  }

  return { root, enter };
}

export default placed("runs", build);
