/**
 * Filters on the ring of a `Uring`: loaded when first asked for.
 *
 * @module
 */
import { IORING_REGISTER_BPF_FILTER } from "../ffi/abi.ts";
import { OPCODE_NAME } from "../ffi/versions.ts";
import type { CoreRing } from "../ring/core_ring.ts";
import { applyOperationFilter, type OperationFilter, RING_OPERATIONS } from "../ring/operation_filter.ts";
import { registerFilter } from "../ring/restrictions.ts";

/** The filter with what the ring's engine does for itself allowed. */
function withOwn(filter: OperationFilter): OperationFilter {
  const { allow, deny } = filter;
  if (Array.isArray(allow) && deny === undefined) return { allow: [...allow, ...RING_OPERATIONS] };
  const needed = Array.isArray(deny) ? deny.find((opcode) => RING_OPERATIONS.includes(opcode)) : undefined;
  if (needed === undefined) return filter;
  throw new RangeError(`A Uring cannot do without ${OPCODE_NAME[needed]}`);
}

/** Has a filter judge what is done on rings of a `Uring`. */
export function filterRings(rings: readonly CoreRing[], filter: OperationFilter): void {
  const all = withOwn(filter);
  for (const ring of rings) {
    applyOperationFilter(all, (each) => {
      registerFilter(each, (arg, hints) => void ring.register(IORING_REGISTER_BPF_FILTER, arg, 1, hints));
    });
  }
}
