// The OpenAPI document as a page.
const cell = (text, kind = "td") => Object.assign(document.createElement(kind), { textContent: text });

function table(rows, heads) {
  const element = document.createElement("table");
  const head = document.createElement("tr");
  head.append(...heads.map((text) => cell(text, "th")));
  element.append(head, ...rows.map((row) => { const line = document.createElement("tr"); line.append(...row.map((text) => cell(text))); return line; }));
  return element;
}

const contract = await (await fetch("/openapi.json")).json();
const resolve = (schema) => schema?.$ref ? contract.components.schemas[schema.$ref.split("/").pop()] : schema;

function limits(schema) {
  const types = schema.anyOf ?? [schema];
  schema = Object.assign({}, schema, ...types);
  const bounds = ["minimum", "maximum", "minLength", "maxLength", "enum", "default"].filter((key) => key in schema).map((key) => `${key} ${schema[key]}`);
  return [types.map((one) => one.type).join(" or "), ...bounds].join(", ");
}

function section(path, method, operation) {
  const element = document.createElement("section");
  const title = document.createElement("h2");
  title.append(Object.assign(document.createElement("code"), { textContent: `${method.toUpperCase()} ${path}` }));
  const contents = operation.requestBody?.content ?? {}, body = resolve(contents["application/json"]?.schema);
  const rows = [
    ...(operation.parameters ?? []).map((p) => [p.name, p.in, p.required ? "yes" : "", limits(p.schema), p.description ?? ""]),
    ...Object.entries(body?.properties ?? {}).map(([name, schema]) => [name, "body", body.required?.includes(name) ? "yes" : "", limits(schema), schema.description ?? ""]),
    ...Object.keys(contents).filter((kind) => kind !== "application/json").map((kind) => ["", "body", "yes", kind, ""]),
  ];
  const answers = Object.keys(operation.responses).join(", ");
  element.append(title, cell(`${operation.description} Answers ${answers}; ${operation.security ? "a token is needed" : "no token is needed"}.`, "p"));
  if (rows.length) element.append(table(rows, ["name", "in", "required", "values", "meaning"]));
  return element;
}

document.getElementById("description").textContent = contract.info.description;
for (const [path, methods] of Object.entries(contract.paths))
  for (const [method, operation] of Object.entries(methods)) document.getElementById("operations").append(section(path, method, operation));
