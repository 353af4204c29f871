/* Which blocks drain; see sparse.h. */
#include "shim/sparse.h"

#include "core/core.h"

#include <limits.h>
#include <string.h>

/* Blocks by live bytes in 64ths of their slabs' bytes, below a quarter. */
#define NR_STEPS 16u
#define STEPS_OF_ALL 64u
/* With fewer sparse blocks than this none drains. */
#define SPARSE_MIN 8u

/* All under the holes lock. */
static unsigned counted[NR_STEPS]; /* in the pass in progress */
/* As the last pass says: blocks below `step` drain, and of those at it all but the first
 * `spared`, lowest addresses first, so that blocks that are alike are told apart. */
static unsigned step, spared = UINT_MAX;

bool sparse_count(size_t slab_bytes, size_t live_bytes)
{
	size_t here = slab_bytes == 0 ? NR_STEPS : live_bytes * STEPS_OF_ALL / slab_bytes;

	if (here >= NR_STEPS)
		return false;
	counted[here]++;
	return here < step || (here == step && counted[here] > spared);
}

void sparse_pass_ends(void)
{
	unsigned nr = 0, want;

	for (unsigned i = 0; i < NR_STEPS; i++)
		nr += counted[i];
	step = 0;
	spared = UINT_MAX;
	if (nr >= SPARSE_MIN) {
		for (want = nr / 2; step < NR_STEPS && want >= counted[step]; step++)
			want -= counted[step];
		spared = step < NR_STEPS ? counted[step] - want : 0;
	}
	memset(counted, 0, sizeof(counted));
}
