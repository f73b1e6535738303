// `await using` on the first releases of Node 20, which have no Symbol.dispose and Symbol.asyncDispose yet. Imported
// first by whatever uses them; where Node has them, nothing happens.
for (const name of ['dispose', 'asyncDispose'] as const) {
  // typed as always there, which is what this file makes true
  if (Symbol[name] === undefined) Object.defineProperty(Symbol, name, { value: Symbol(`Symbol.${name}`) })
}
