// Numbers of a behaviour: in the box that follows pointer and focus, and in the opened card.

/** Role, phase and who plays, each word once. */
const standing = (item) => [...new Set([item.role, item.phase, item.holder])].join(" · ");

const SHOWN_IN_TIP = 8; // labels

function signMark(value) {
  return value === null ? "○" : value > 0 ? "▲" : value < 0 ? "▼" : "◆";
}

/** The share of `strongest` that a behaviour's credit has, as a colour between two poles that differ in lightness too. */
function paint(node, item, strongest) {
  const value = creditOf(item);
  if (value === null) {
    node.style.setProperty("--credit", "var(--line)");
    return;
  }
  // The square root keeps small credit visible beside large.
  const share = Math.round(100 * Math.min(1, Math.sqrt(Math.abs(value) / strongest)));
  node.style.setProperty("--credit", `color-mix(in oklab, ${value >= 0 ? "var(--plus)" : "var(--minus)"} ${share}%, var(--middle))`);
}

function factList(item) {
  const sampled = MODELS.includes(item.holder);
  const spoken = sampled && isNumber(item.action_log_prob) && Math.abs(item.log_prob - item.action_log_prob) > 1e-6;
  const facts = [
    ["utility", creditOf(item) === null ? "none" : signed(creditOf(item))],
    ["weight", show(item.weight)],
    ["advantage", signed(item.advantage)],
    ["return", signed(item.return)],
    ["log-prob", sampled ? show(item.log_prob) : "–"],
    ...(spoken ? [["of the action", show(item.action_log_prob)]] : []),
  ];
  return element("dl", "facts number",
    ...facts.map(([name, text]) => element("div", "", element("dt", "", name), element("dd", "", text))));
}

/** The legal actions, the one taken first among the first `most`. */
function legalList(item, most = Infinity) {
  const { labels, taken, rest } = choices(item);
  if (!labels.length) return null;
  const sorted = most < labels.length ? [...labels].sort((a, b) => b.isTaken - a.isTaken).slice(0, most) : labels;
  const rows = sorted.map(({ label, isTaken, probability }) => {
    const row = element("li", isTaken ? "taken" : "", element("span", "label", isTaken ? `✓ ${label}` : label));
    if (probability !== null) row.append(element("span", "number", percent(probability)), meter(probability));
    return row;
  });
  const more = labels.length - sorted.length;
  const known = taken === null || labels.length === 2 ? "" : `the other ${labels.length - 1} together ${percent(rest)}`;
  const note = [more ? `${more} more not shown` : "", known].filter(Boolean).join(" · ");
  return element("div", "legal",
    element("p", "quiet", `${labels.length === 1 ? "the only legal action" : `${labels.length} legal actions`}`),
    element("ul", "", ...rows), note ? element("p", "quiet number", note) : null);
}

function meter(share) {
  const bar = element("span", "meter", element("i", ""));
  bar.firstChild.style.setProperty("width", `${(100 * share).toFixed(1)}%`);
  return bar;
}

let tipOf = null; // what the box points at

function showTip(anchor, game, item) {
  const tip = byId("tip");
  tip.replaceChildren(
    element("p", "tip-head", element("b", "", seatName(game, item.seat)), ` ${standing(item)}`),
    ...[item.speech ? element("p", "speech", `“${item.speech}”`) : null,
      item.action ? element("p", "act", item.action) : null, factList(item), legalList(item, SHOWN_IN_TIP)].filter(Boolean));
  tip.hidden = false;
  tipOf = anchor;
  placeTip();
}

/** Below what it points at, or above where there is no room. */
function placeTip() {
  const tip = byId("tip");
  const place = tipOf.getBoundingClientRect();
  const size = tip.getBoundingClientRect();
  const left = Math.max(8, Math.min(place.left + place.width / 2 - size.width / 2, innerWidth - size.width - 8));
  const below = place.bottom + 8;
  const top = below + size.height < innerHeight ? below : Math.max(8, place.top - 8 - size.height);
  tip.style.setProperty("left", `${left}px`);
  tip.style.setProperty("top", `${top}px`);
}

function hideTip() {
  byId("tip").hidden = true;
  tipOf = null;
}

/** While something scrolls, the box follows the keyboard's place and lets go of the pointer's. */
function tipWhileScrolling() {
  if (!tipOf) return;
  if (document.activeElement?.contains(tipOf)) placeTip();
  else hideTip();
}

/** Shows a behaviour's numbers while the pointer is at `hovered`, or the keyboard at `focused`. */
function giveTip(game, item, hovered, focused = hovered) {
  hovered.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") showTip(hovered, game, item); });
  hovered.addEventListener("pointerleave", hideTip);
  focused.addEventListener("focus", () => { if (focused.matches(":focus-visible")) showTip(hovered, game, item); });
  focused.addEventListener("blur", hideTip);
  focused.setAttribute("aria-describedby", "tip");
}
