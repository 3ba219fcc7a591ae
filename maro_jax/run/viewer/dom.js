// Small helpers for the page. Every text of a game enters it as a text node (element() and append), never as markup.

const byId = (id) => document.getElementById(id);

function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function button(className, text, onClick) {
  const node = element("button", className, text);
  node.type = "button";
  if (onClick) node.addEventListener("click", onClick);
  return node;
}

const DRAWINGS = byId("drawing").namespaceURI;

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(DRAWINGS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Fills a choice with [value, label] pairs, keeping what was chosen where it is still offered. */
function fillSelect(select, pairs) {
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, label]) => new Option(label, value)));
  select.value = pairs.some(([value]) => value === before) ? before : pairs[0][0];
}

/** The arrow keys move along a group of which only one member is in the order of tabs. */
function rovingFocus(group, selector, moveOf) {
  group.addEventListener("keydown", (event) => {
    const members = [...group.querySelectorAll(selector)];
    const to = moveOf(event.key, members.indexOf(document.activeElement), members);
    if (to === null || !members[to]) return;
    event.preventDefault();
    event.stopPropagation();
    for (const member of members) member.tabIndex = -1;
    members[to].tabIndex = 0;
    members[to].focus();
  });
}

const prefersStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
