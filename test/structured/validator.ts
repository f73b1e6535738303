// ajv, with formats: the judge of what is valid.
import Ajv2020Module, { type ValidateFunction } from 'ajv/dist/2020.js'
import formatsModule from 'ajv-formats'

/** Null where ajv itself cannot read the schema: another draft, a reference elsewhere. */
export function validator(schema: Record<string, unknown> | boolean): ValidateFunction | null {
  // both are CommonJS with a default export, which Node shows as a field of the module
  const ajv = new Ajv2020Module.default({ strict: false, logger: false })
  formatsModule.default(ajv)
  try {
    const { $schema, ...rest } = schema as Record<string, unknown>
    return ajv.compile(typeof schema === 'boolean' ? schema : rest)
  } catch {
    return null
  }
}
