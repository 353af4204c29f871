# What goes back to the system after a peak; the top Makefile includes this.
#
#   make bench-return                                  all, about 25 minutes
#   make bench-return WORKLOADS_FLAGS='--quick'        about three
#   make bench-return WORKLOADS_FLAGS='--only random'  see workloads/return --help
#   make bench-sited                                   what lifetime:auto costs, 4 minutes

.PHONY: bench-return
bench-return: $(WORKLOADS_DIR)/return $(WORKLOADS_DIR)/warm $(BUILD)/libpageblock.so $(BUILD)/pageblock
	@tests/support/need python3 gnuplot-nox redis-server clangd libmimalloc2.0 libjemalloc2 \
	  libgoogle-perftools4
	@workloads/return --build $(BUILD) $(WORKLOADS_FLAGS)

# What lifetime:auto costs; see workloads/sited --help.
WORKLOADS_SITED := $(addprefix $(WORKLOADS_DIR)/,return warm adverse adverse_places.so)

workloads: $(WORKLOADS_SITED)

.PHONY: bench-sited
bench-sited: $(WORKLOADS_SITED) $(BUILD)/libpageblock.so
	@tests/support/need python3
	@workloads/sited --build $(BUILD) $(WORKLOADS_FLAGS)
