// As much of a browser's page as the viewer's script asks for, so that Node can draw it where no browser is installed.
// `tree` is the page: [tag, attributes, ...children], texts as they are; `place` the part of its address behind the #.

function openPage(tree, place) {
  const NAMESPACE = { svg: "http://www.w3.org/2000/svg" };
  const REFLECTED = { className: "class", id: "id", title: "title", type: "type", tabIndex: "tabindex" };
  const FLAGS = ["hidden", "open", "disabled"];

  class Text {
    constructor(text) {
      this.text = String(text);
      this.parent = null;
    }
    get textContent() { return this.text; }
    get html() { return this.text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]); }
  }

  class Element {
    constructor(tag, namespaceURI = "") {
      Object.assign(this, { tag, namespaceURI, childNodes: [], parent: null, attributes: new Map(), listeners: [] });
      Object.assign(this, { scrollTop: 0, offsetWidth: 0, chosen: null });
      const attributes = this.attributes;
      const dashed = (name) => `data-${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
      this.dataset = new Proxy({}, {
        get: (_, name) => attributes.get(dashed(name)),
        set: (_, name, value) => attributes.set(dashed(name), String(value)) && true,
      });
      this.style = { setProperty: (name, value) => attributes.set("style", `${attributes.get("style") ?? ""}${name}: ${value};`) };
      const classes = () => new Set((attributes.get("class") ?? "").split(/\s+/).filter(Boolean));
      const change = (how) => (name) => { const all = classes(); all[how](name); attributes.set("class", [...all].join(" ")); };
      this.classList = { add: change("add"), remove: change("delete"), contains: (name) => classes().has(name) };
    }
    get tagName() { return this.tag.toUpperCase(); }
    get children() { return this.childNodes.filter((child) => child instanceof Element); }
    get childElementCount() { return this.children.length; }
    get firstChild() { return this.childNodes[0] ?? null; }
    get textContent() { return this.childNodes.map((child) => child.textContent).join(""); }
    set textContent(text) { this.replaceChildren(text); }
    get options() { return this.all().filter((node) => node.tag === "option"); }
    get value() { return this.tag === "select" ? this.chosen ?? this.options[0]?.value ?? "" : this.attributes.get("value") ?? ""; }
    set value(text) {
      if (this.tag !== "select") this.attributes.set("value", text);
      else this.chosen = this.options.some((option) => option.value === text) ? text : "";
    }
    getAttribute(name) { return this.attributes.get(name) ?? null; }
    setAttribute(name, value) { this.attributes.set(name, String(value)); }
    append(...children) {
      for (const child of children) {
        const node = child instanceof Element || child instanceof Text ? child : new Text(child);
        node.parent?.childNodes.splice(node.parent.childNodes.indexOf(node), 1);
        node.parent = this;
        this.childNodes.push(node);
      }
    }
    replaceChildren(...children) {
      for (const child of this.childNodes) child.parent = null;
      this.childNodes = [];
      this.append(...children);
    }
    all() { return this.children.flatMap((child) => [child, ...child.all()]); }
    contains(node) { return node === this || this.all().includes(node); }
    is(simple) {
      const [tag, ...names] = simple.split(".");
      return (!tag || tag === this.tag) && names.every((name) => this.classList.contains(name));
    }
    matches(selector) {
      if (selector === ":focus-visible") return document.activeElement === this;
      const steps = selector.split(/\s+/);
      const upwards = (node, at) => {
        if (!node.is(steps[at])) return false;
        if (at === 0) return true;
        if (steps[at - 1] === ">") return node.parent !== null && upwards(node.parent, at - 2);
        for (let above = node.parent; above; above = above.parent) if (upwards(above, at - 1)) return true;
        return false;
      };
      return upwards(this, steps.length - 1);
    }
    querySelectorAll(selector) { return this.all().filter((node) => node.matches(selector)); }
    querySelector(selector) { return this.querySelectorAll(selector)[0] ?? null; }
    addEventListener(type, listener) { this.listeners.push([type, listener]); }
    /** Tells the listeners here and above of an event. */
    tell(type, values = {}) {
      const event = { type, target: this, preventDefault() {}, stopPropagation() { event.ends = true; }, ...values };
      for (let node = this; node && !event.ends; node = node.parent) {
        for (const [wanted, listener] of node.listeners) if (wanted === type) listener(event);
      }
    }
    click() { this.tell("click"); }
    focus() {
      document.activeElement = this;
      this.tell("focus");
    }
    scrollIntoView() {}
    getBoundingClientRect() { return { left: 0, top: 0, bottom: 10, width: 10, height: 10 }; }
    get html() {
      const attributes = [...this.attributes].map(([name, value]) => ` ${name}="${value.replace(/[&"]/g, (sign) => ({ "&": "&amp;", '"': "&quot;" })[sign])}"`);
      const inside = this.childNodes.map((child) => (["script", "style"].includes(this.tag) ? child.text : child.html));
      return `<${this.tag}${attributes.join("")}>${["meta", "input"].includes(this.tag) ? "" : `${inside.join("")}</${this.tag}>`}`;
    }
  }
  for (const [property, name] of Object.entries(REFLECTED)) {
    Object.defineProperty(Element.prototype, property, {
      get() { return this.attributes.get(name) ?? ""; },
      set(value) { this.attributes.set(name, String(value)); },
    });
  }
  for (const name of FLAGS) {
    Object.defineProperty(Element.prototype, name, {
      get() { return this.attributes.has(name); },
      set(value) {
        if (this.attributes.has(name) === Boolean(value)) return;
        if (value) this.attributes.set(name, "");
        else this.attributes.delete(name);
        if (name === "open") this.tell("toggle");
      },
    });
  }

  function grow([tag, attributes, ...children]) {
    const node = new Element(tag, NAMESPACE[tag]);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value ?? "");
    node.append(...children.map((child) => (typeof child === "string" ? child : grow(child))));
    return node;
  }

  const root = grow(tree);
  const document = {
    documentElement: root,
    activeElement: null,
    createElement: (tag) => new Element(tag),
    createElementNS: (namespace, tag) => new Element(tag, namespace),
    getElementById: (id) => root.all().find((node) => node.id === id) ?? null,
    querySelectorAll: (selector) => root.querySelectorAll(selector),
    addEventListener: (...given) => root.addEventListener(...given),
  };
  class Option extends Element {
    constructor(text, value) {
      super("option");
      this.append(text);
      this.attributes.set("value", value);
    }
  }
  return {
    document, Option, location: { hash: place, protocol: "file:" }, history: { replaceState() {} },
    matchMedia: () => ({ matches: false }), innerWidth: 1280, innerHeight: 900, addEventListener() {},
    requestAnimationFrame: (callback) => setTimeout(callback),
  };
}
