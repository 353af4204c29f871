# The tests that run other people's programs on the library, and the demonstration.
#
#   make check-programs PROGRAMS=quick     only the quick ones
#   make check-programs PROGRAMS=NAME,...  only these

.PHONY: demo check-programs

demo: $(BUILD)/libpageblock.so
	@tests/support/need python3 redis-server
	@python3 tests/demo/demo --lib $<

check-programs: $(BUILD)/libpageblock.so
	@rm -rf $(BUILD)/programs
	@tests/programs/run --lib $< --logs $(BUILD)/programs \
	  $(if $(PROGRAMS),$(if $(filter quick,$(PROGRAMS)),--quick,--only $(PROGRAMS)))
