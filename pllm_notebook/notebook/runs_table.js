// Buttons beside the lines of `pllm.runs()`: each opens its run below the table. After placed.js.

function button(model, run, word) {
  const made = element("button", word, "pllm-open-run");
  made.type = "button";
  made.setAttribute("aria-label", `Open run ${run}`);
  made.addEventListener("click", () => model.send({ do: "open", run }));
  return made;
}

function build(model) {
  const root = element("div", undefined, "pllm-panel pllm-panel-said");
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
      const row = element("div", undefined, "pllm-panel pllm-panel-row");
      row.append(...model.get("runs").map((run) => button(model, run, `Open ${run}`)));
      root.before(row);
      return;
    }
    table.querySelector("thead tr").prepend(element("td"));
    const lines = table.querySelectorAll("tbody tr");
    model.get("runs").forEach((run, at) => {
      const cell = element("td", undefined, "pllm-panel");
      cell.append(button(model, run, "Open"));
      lines[at]?.prepend(cell);
    });
  }

  return { root, enter };
}

export default placed("runs", build);
