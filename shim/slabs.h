/*
 * The slabs of one heap: which have free objects, by fullness, and where they come from
 * and go to.  All under the heap's lock, but for slabs_count().
 */
#ifndef PB_SHIM_SLABS_H
#define PB_SHIM_SLABS_H

#include "shim/heap.h"
#include "shim/slab.h"

/* Slabs of the class; without the lock a hint. */
uint32_t slabs_count(struct heap_class *hc);
/* A slab becomes the heap's, on the list of its fullness; or no longer is. */
void slabs_add(struct heap *h, struct slab *s);
void slabs_remove(struct heap *h, struct slab *s);
/* Puts the slab where its fullness and flags say; no free object and not cordoned: on no list. */
void slabs_update(struct heap_class *hc, struct slab *s);
/* A slab without live objects that the heap can do without. */
bool slabs_is_spare(const struct heap *h, const struct slab *s);
/* Gives the pages of a slab without live objects back. */
void slabs_release(struct heap *h, struct slab *s);
/* Nothing is handed out from the slab any more, and it goes back when it is empty, which may
 * be now; or it is as others again. */
void slabs_cordon(struct heap *h, struct slab *s);
void slabs_uncordon(struct heap *h, struct slab *s);
/* Whether any slab of the class, of any heap, is cordoned: a hint without all locks. */
bool slabs_any_cordoned(unsigned cls);
/* Whether other slabs than one have `enough` free objects; looks at a few only. */
bool slabs_have_room(struct heap *h, unsigned cls, const struct slab *but, uint32_t enough);
/* The program moves what lives in the slab away; or that is no longer so. */
void slabs_start_emptying(struct heap *h, struct slab *s);
void slabs_stop_emptying(struct heap_class *hc, struct slab *s);
/* The fullest slab that has a free object, and is not being emptied if there is another;
 * NULL: none. */
struct slab *slabs_fullest(struct heap_class *hc);
/* The emptiest slab of the class that is at least as empty as list `from`; NULL: none. */
struct slab *slabs_emptiest(struct heap_class *hc, unsigned from);
/* A new slab of the class; NULL: no memory. */
struct slab *slabs_new(struct heap *h, unsigned cls);
/* An object of a heap whose slabs all have the flag, which no thread caches; NULL: no memory. */
struct object *slabs_take_flagged(struct heap *h, unsigned cls, unsigned flag);

#endif
