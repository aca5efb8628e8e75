// The picture of a program's session, which the kernel draws. After placed.js.

function build(model) {
  const root = element("div");
  root.setAttribute("role", "status");

  function end(place) {
    if (model.get("ended")) return;
    root.textContent = "The kernel is gone, and the program with it: what is stored stays. Run the cell again to go on.";
    place.append(root);
  }

  return { root, enter() {}, end };
}

export default placed("session", build);
