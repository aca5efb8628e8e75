// Buttons beside the lines of `pllm.runs()`: each opens its run below the table. One module without a build.
//
// The table is plain HTML in the notebook. A browser that finds its place (`data-pllm-runs`) adds the buttons there, so
// that no output holds a widget; elsewhere the buttons are in an output of their own.

function button(model, run, word) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "pllm-open-run";
  made.textContent = word;
  made.setAttribute("aria-label", `Open run ${run}`);
  made.addEventListener("click", () => model.send({ do: "open", run }));
  return made;
}

function note(model, host) {
  const said = document.createElement("div");
  said.setAttribute("role", "status");
  host.append(said);
  const show = () => {
    said.textContent = model.get("problem");
  };
  model.on("change:problem", show);
  show();
}

// Adds the buttons to the lines of the table, once.
function fill(model, place) {
  if (place.dataset.pllmFilled === model.get("view_id")) return;
  place.dataset.pllmFilled = model.get("view_id");
  const head = place.querySelector("thead tr");
  head?.prepend(document.createElement("td"));
  const lines = place.querySelectorAll("tbody tr");
  model.get("runs").forEach((run, at) => {
    const cell = document.createElement("td");
    cell.append(button(model, run, "Open"));
    lines[at]?.prepend(cell);
  });
  note(model, place);
}

export default {
  initialize({ model }) {
    const found = `[data-pllm-runs="${CSS.escape(model.get("view_id"))}"]`;
    let waits = false;
    const look = () => {
      waits = false;
      for (const place of document.querySelectorAll(found)) fill(model, place);
    };
    const observer = new MutationObserver(() => {
      if (!waits) {
        waits = true;
        requestAnimationFrame(look);
      }
    });
    observer.observe(document.body, { childList: true, subtree: true });
    // Of a kernel that has gone: a button that does nothing is none.
    const end = () => {
      observer.disconnect();
      for (const each of document.querySelectorAll(`${found} .pllm-open-run`)) each.disabled = true;
    };
    for (const event of ["comm_live_update", "comm:close"]) model.on(event, end);
    look();
    return end;
  },

  render({ model, el }) {
    for (const run of model.get("runs")) el.append(button(model, run, `Open ${run}`), " ");
    note(model, el);
  },
};
