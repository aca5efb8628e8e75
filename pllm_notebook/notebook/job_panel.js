// Buttons above the table of `pllm.jobs()`: each carries out a command on a job. One module without a build.
//
// The table is plain HTML in the notebook. A browser that finds its place (`data-pllm-jobs`) adds the buttons there and
// renders the table again, so that no output holds a widget; elsewhere they are in an output of their own.

const JOBLESS = new Set(["refresh", "fetch"]);

function options(model, select) {
  const chosen = select.value;
  const names = model.get("names");
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.includes(chosen)) select.value = chosen;
}

// Adds the buttons and what is said to *host*; returns its row of controls.
function controls(model, host) {
  const row = document.createElement("div");
  row.className = "pllm-job-buttons";
  row.style.cssText = "display:flex;flex-wrap:wrap;gap:4px;margin:2px 0";
  const select = document.createElement("select");
  select.setAttribute("aria-label", "Job");
  const buttons = model.get("commands").map(([word, label, meaning]) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.title = meaning;
    made.addEventListener("click", () => model.send({ do: word, job: JOBLESS.has(word) ? "" : select.value }));
    return made;
  });
  row.append(...buttons.slice(0, JOBLESS.size), select, ...buttons.slice(JOBLESS.size));
  // Another job: what the first click on a priced command asked was about the one before.
  select.addEventListener("change", () => model.send({ do: "choose", job: select.value }));
  const said = document.createElement("div");
  said.setAttribute("role", "status");
  const show = () => {
    said.textContent = model.get("said");
  };
  const list = () => options(model, select);
  model.on("change:said", show);
  model.on("change:names", list);
  show();
  list();
  host.prepend(row, said);
  return row;
}

// Adds the buttons above the table, once, and keeps the table as the kernel knows it.
function fill(model, place) {
  if (place.dataset.pllmFilled === model.get("view_id")) return;
  place.dataset.pllmFilled = model.get("view_id");
  const table = place.querySelector(".pllm-jobs-table");
  controls(model, place);
  const draw = () => {
    table.innerHTML = model.get("table");
  };
  model.on("change:table", draw);
  draw();
}

export default {
  initialize({ model }) {
    const found = `[data-pllm-jobs="${CSS.escape(model.get("view_id"))}"]`;
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
      for (const each of document.querySelectorAll(`${found} .pllm-job-buttons > *`)) each.disabled = true;
    };
    for (const event of ["comm_live_update", "comm:close"]) model.on(event, end);
    look();
    return end;
  },

  render({ model, el }) {
    const table = document.createElement("div");
    el.append(table);
    controls(model, el);
    // The output before this one has the table as it was.
    model.on("change:table", () => {
      table.innerHTML = model.get("table");
    });
  },
};
