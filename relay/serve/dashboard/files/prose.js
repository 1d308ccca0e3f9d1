// Sentences of the relay as people read them: names in `backticks` as code, the source of a rule as links.

const SPECS = "https://atproto.com/specs/";
const LEXICON = "https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/subscribeRepos.json";
const OPERATOR = "operator"; // of a rule that is this relay's own; its sentence says so

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(text);
  return made;
}

export function prose(text) {
  return text.split("`").map((part, at) => (at % 2 ? element("code", part) : part));
}

function link(source) {
  const href = source.endsWith("lexicon") ? LEXICON : SPECS + source.replaceAll(" ", "-");
  return element("a", source, { href, rel: "noreferrer" });
}

// What a drop's rule says, "Words. (source, source)", as nodes.
export function rule(text) {
  const found = /^(.*) \(([A-Za-z, ]+)\)$/.exec(text ?? "");
  if (!found) return prose(text ?? "");
  const sources = found[2].split(", ").filter((source) => source !== OPERATOR);
  if (!sources.length) return prose(found[1]);
  const links = sources.flatMap((source, at) => (at ? [", ", link(source)] : [link(source)]));
  const said = element("span", " Specification: ", { class: "soft" });
  said.append(...links);
  return [...prose(found[1]), said];
}
