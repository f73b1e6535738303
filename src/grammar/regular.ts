// An expression without rules, spelled so that nothing in it overlaps.
import { RequestError } from '../tensor/error.ts'
import { automatonOf, isSpellable, spell } from './automaton.ts'
import { type Expr, printExpr, type Rules } from './expr.ts'

export function regular(expr: Expr, rules: Rules): Expr {
  return rules.once(`regular ${printExpr(expr)}`, () => spelled(expr, rules))
}

function spelled(expr: Expr, rules: Rules): Expr {
  const automaton = automatonOf(expr)
  if (automaton === null) {
    throw new RequestError('the pattern comes to too many states; use smaller counts', 'structured_outputs')
  }
  if (!isSpellable(automaton)) {
    throw new RequestError(
      'the pattern tells a letter beyond ASCII from all others, which cannot be enforced; use a set of ASCII letters',
      'structured_outputs',
    )
  }
  return spell(automaton, rules)
}
