// What a session is told, out of the form; an empty field is as the server is configured.

/** Return the fields of a session.update. */
export function readSettings(form, { spoken, retrieval }) {
  const given = form.elements;
  const sampling = {};
  for (const name of ["max_tokens", "temperature"]) {
    if (given[name].value !== "" && given[name].checkValidity()) sampling[name] = Number(given[name].value);
  }
  const settings = {
    model: given.model.value,
    speculation: given.speculation.value || null,
    consensus: given.consensus.value || null,
    instructions: given.instructions.value.trim() || null,
    sampling: Object.keys(sampling).length ? sampling : null,
    input: { kind: spoken ? "transcript" : "auto" },
  };
  if (retrieval) settings.retrieval = given.retrieval.value === "" ? null : given.retrieval.value === "true";
  return settings;
}
