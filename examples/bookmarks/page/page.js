"use strict";

const byId = (id) => document.getElementById(id);
const form = byId("editor").querySelector("form");
const view = { search: "", tag: "", shown: [], total: 0, tags: [], asked: 0 };
let edited = null; // the bookmark in the editor; null: a new one

// An element with properties and children. Text goes in as text: nothing that was typed becomes markup.
function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, { method, body: body && JSON.stringify(body) });
  } catch {
    throw new Error("The app does not answer. Is it running?");
  }
  if (response.status === 204) return null;
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(value.error || `The app answered ${response.status}.`);
  return value;
}

function showError(place, error) {
  place.hidden = !error;
  place.querySelector("span").textContent = error ? error.message : "";
}

async function load(more = false) {
  const asked = ++view.asked;
  const query = new URLSearchParams({ q: view.search, tag: view.tag, offset: more ? view.shown.length : 0 });
  try {
    const found = await call("GET", `/api/bookmarks?${query}`);
    if (asked !== view.asked) return; // a later question is on its way
    view.shown = more ? view.shown.concat(found.bookmarks) : found.bookmarks;
    view.total = found.total;
    view.tags = found.tags;
    showError(byId("error"));
    show();
  } catch (error) {
    if (asked === view.asked) showError(byId("error"), error);
  }
}

function tagButton(name, label) {
  const button = element("button", { className: "tag", type: "button" }, label);
  button.setAttribute("aria-pressed", String(view.tag === name));
  button.addEventListener("click", () => {
    view.tag = view.tag === name ? "" : name;
    load();
  });
  return element("li", {}, button);
}

function card(bookmark) {
  const edit = element("button", { className: "plain", ariaLabel: `Edit ${bookmark.title}` }, "Edit");
  edit.addEventListener("click", () => openEditor(bookmark));
  const remove = element("button", { className: "plain danger", ariaLabel: `Delete ${bookmark.title}` }, "Delete");
  remove.addEventListener("click", () => removeBookmark(bookmark, remove));
  const link = element("a", { href: bookmark.url, target: "_blank", rel: "noopener noreferrer" }, bookmark.title);
  const when = element("time", { dateTime: bookmark.createdAt },
    new Date(bookmark.createdAt).toLocaleDateString(undefined, { dateStyle: "medium" }));
  const made = element("li", { className: "card" },
    element("div", { className: "row" }, element("h3", {}, link), edit, remove),
    element("div", { className: "quiet" }, bookmark.url, " · ", when));
  if (bookmark.note) made.append(element("p", {}, bookmark.note));
  if (bookmark.tags.length) {
    made.append(element("ul", { className: "tags", ariaLabel: "Tags" }, ...bookmark.tags.map((tag) => tagButton(tag, `#${tag}`))));
  }
  return made;
}

function show() {
  const all = !view.search && !view.tag;
  byId("list").replaceChildren(...view.shown.map(card));
  byId("tags").replaceChildren(...view.tags.map((tag) => tagButton(tag.name, `#${tag.name} ${tag.count}`)));
  byId("count").textContent = view.total === 0 ? "" : view.total === 1 ? "1 bookmark" : `${view.total} bookmarks`;
  byId("empty").hidden = view.total > 0 || !all;
  byId("nothing").hidden = view.total > 0 || all;
  byId("more").hidden = view.shown.length >= view.total;
}

async function removeBookmark(bookmark, button) {
  if (!confirm(`Delete “${bookmark.title}”?`)) return;
  button.disabled = true;
  try {
    await call("DELETE", `/api/bookmarks/${bookmark.id}`);
  } catch (error) {
    showError(byId("error"), error);
    button.disabled = false;
    return;
  }
  if (view.tag && view.shown.length === 1) view.tag = "";
  await load();
  byId("search").focus();
}

function openEditor(bookmark) {
  edited = bookmark;
  byId("editor-title").textContent = bookmark ? "Edit the bookmark" : "Add a bookmark";
  form.reset();
  showError(byId("editor-error"));
  if (bookmark) {
    for (const name of ["url", "title", "note"]) form.elements[name].value = bookmark[name];
    form.elements.tags.value = bookmark.tags.join(", ");
  } else if (view.tag) {
    form.elements.tags.value = view.tag;
  }
  byId("editor").showModal();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault(); // the dialog closes when it is saved, not before
  byId("save").disabled = true;
  const body = Object.fromEntries(["url", "title", "tags", "note"].map((name) => [name, form.elements[name].value]));
  try {
    await (edited ? call("PUT", `/api/bookmarks/${edited.id}`, body) : call("POST", "/api/bookmarks", body));
    byId("editor").close();
    await load();
  } catch (error) {
    showError(byId("editor-error"), error);
  } finally {
    byId("save").disabled = false;
  }
});

let typing = 0;
byId("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    view.search = byId("search").value.trim();
    load();
  }, 150);
});

byId("add").addEventListener("click", () => openEditor(null));
byId("cancel").addEventListener("click", () => byId("editor").close());
byId("more").addEventListener("click", () => load(true));
byId("retry").addEventListener("click", () => load());
byId("clear").addEventListener("click", () => {
  byId("search").value = view.search = view.tag = "";
  load();
});

load();
