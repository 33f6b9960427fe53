// What our widgets on nodes have in common.

/** Return a function that makes every widget of a node, also one that came later, report its changes. */
export function watcher(node, report) {
  const watched = new WeakSet();
  return () => {
    for (const widget of node.widgets.filter((each) => !watched.has(each))) {
      watched.add(widget);
      const callback = widget.callback;
      widget.callback = function (...values) {
        const result = callback?.apply(this, values);
        report();
        return result;
      };
    }
  };
}

/** Make a node as high as what is in it. */
export function makeRoom(node) {
  const [, wanted] = node.computeSize();
  if (node.size[1] < wanted) {
    node.setSize([node.size[0], wanted]);
  }
  node.graph?.setDirtyCanvas(true, true);
}

/** Return a new element with a class and a text. */
export function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
