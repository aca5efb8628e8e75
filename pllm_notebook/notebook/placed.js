// How a panel finds its place. Put before the module of each panel; no build.
//
// What a panel shows is plain HTML in an output, so that no output holds a widget: a notebook that is opened without
// its kernel, or exported, has it all. A browser that finds the place (`data-pllm-<kind>`) adds what can be clicked;
// where none looks for places (VS Code, Colab), that is in an output of its own.

// Watches the page for places that come into it. In the same task that put them there, so that the focus, and a key
// that comes next, find the panel.
function whenPlaced(found, look) {
  const holds = (node) => node.nodeType === Node.ELEMENT_NODE && (node.matches(found) || node.querySelector(found) !== null);
  const observer = new MutationObserver((records) => {
    if (records.some((record) => [...record.addedNodes].some(holds))) look();
  });
  observer.observe(document.body, { childList: true, subtree: true });
  look();
  return observer;
}

// Returns what gives the focus back to the part of *root* that had it when its output was shown again.
function focusKeeper(root) {
  let focused = null;
  root.addEventListener("focusin", ({ target }) => {
    focused = target;
  });
  // A focus that a person moves is forgotten; one that goes with its output is not.
  root.addEventListener("focusout", () => setTimeout(() => {
    if (root.isConnected && !root.contains(root.getRootNode().activeElement)) focused = null;
  }));
  return () => {
    if (focused !== null && document.activeElement === document.body) (focused.isConnected ? focused : root).focus({ preventScroll: true });
  };
}

// Returns the module of a panel.
//
// `build(model)` makes its live part, `{ root, enter(place), end(place) }`: `enter` puts it into a place, again where
// the output was shown again; `end` says that the kernel has gone.
function placed(kind, build) {
  return {
    initialize({ model }) {
      const found = `[data-pllm-${kind}="${CSS.escape(model.get("view_id"))}"]`;
      const parts = new Map();
      const draw = (place) => {
        place.querySelector(".pllm-saved").innerHTML = model.get("html");  // the kernel's, which has escaped it
      };
      const look = () => {
        // A page that is scrolled may take a place out and put it back: its part is then still in it.
        const left = [...parts.keys()].filter((place) => !place.isConnected);
        for (const place of document.querySelectorAll(found)) {
          if (parts.has(place)) continue;
          const before = left.shift();
          const part = parts.get(before) ?? started(build(model));
          parts.delete(before);
          parts.set(place, part);
          place.pllmModel = model;
          draw(place);
          part.enter(place);
          part.keepFocus();
        }
      };
      const drawAll = () => parts.forEach((part, place) => draw(place));
      model.on("change:html", drawAll);
      const observer = whenPlaced(found, look);
      const end = () => {
        observer.disconnect();
        for (const [place, part] of parts) {
          if (place.pllmModel !== model) continue;  // another model has its place
          for (const each of place.querySelectorAll("button, select, input")) each.disabled = true;
          part.end?.(place);
        }
      };
      for (const event of ["comm_live_update", "comm:close"]) model.on(event, end);
      return end;
    },

    render({ model, el }) {
      started(build(model)).enter(el);
    },
  };
}

function started(part) {
  part.keepFocus = focusKeeper(part.root);
  return part;
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}
