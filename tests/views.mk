# Tests of the look into processes (tools/): check-views.
#
#   make check-views                   all
#   make check-views VIEWS='truth'     some
#   READS=10000                        looks at threads at work
#   make bench-views                   what looking costs

TVW := $(BUILD)/tests/views
TVW_LIBRARY := $(patsubst %.c,$(OBJ)/%.o,$(CORE_SRC) $(SHIM_SRC))
TVW_TOOL := $(patsubst %,$(OBJ)/tools/%.o,tool reader snapshot heaps clients resident) \
  $(patsubst %,$(OBJ)/preload/%.o,options text)

# The library's parts in the program itself, where a reader finds them as well.
$(TVW)/truth: $(OBJ)/tests/views/truth.o $(TVW_LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -rdynamic -o $@ $^

$(TVW)/readings: $(OBJ)/tests/views/readings.o $(TVW_TOOL)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $^

$(TVW)/fake: private TEST_LINK = -rdynamic

$(TVW)/%: tests/views/%.c tests/views.mk
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -o $@ $< $(TEST_LINK)

TVW_PROGRAMS := $(addprefix $(TVW)/,truth readings fake known churn forks)

CHECKS += check-views
.PHONY: check-views bench-views
# What looking costs the process that is looked into: two minutes.
bench-views: $(BUILD)/libpageblock.so $(TVW)/churn $(TVW)/readings
	tests/views/cost $(BUILD)

check-views: $(BUILD)/libpageblock.so $(BUILD)/pageblock $(TVW_PROGRAMS)
	@tests/support/need python3 redis-server nginx
	@tests/views/run $(BUILD) $(VIEWS)
