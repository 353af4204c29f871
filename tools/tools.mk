# The command-line program, generated documents, installation.

# A verb is a row of tools/verbs.def and its function in a file of tools/.
TOOL_OBJ := $(patsubst %.c,$(OBJ)/%.o,$(wildcard tools/*.c) preload/options.c preload/text.c)

# New-handlers throw through its functions, and programs replace some of them (clang
# would inline ours into the others all the same).
$(OBJ)/pic/preload/cxx.o: LIB_CFLAGS += -fexceptions -fsemantic-interposition

# The recorder is a library of its own that stands before any allocator.
all: $(BUILD)/libpageblock-record.so
$(BUILD)/libpageblock-record.so: $(OBJ)/pic/tools/record/recorder.o
	$(CC) -shared -pthread -Wl,-z,defs,-z,relro,-z,now -Wl,-soname,libpageblock-record.so \
	  $(LDFLAGS) -o $@ $<

$(BUILD)/pageblock: $(TOOL_OBJ)
	$(CC) $(LDFLAGS_COMMON) $(LDFLAGS) -o $@ $(TOOL_OBJ)

# What they contain of the option table and the verbs.
GENERATED := $(wildcard README.md) doc/man/pageblock.1 doc/man/pageblock.7

.PHONY: generate check-generated uninstall
generate: $(BUILD)/pageblock
	tools/generate $< $(GENERATED)

check-generated: $(BUILD)/pageblock
	@tools/generate $< --check $(GENERATED) && echo 'generated: 1 passed, 0 failed, 0 skipped'

# --- installation -----------------------------------------------------------------------
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
COMPLETIONSDIR ?= $(PREFIX)/share/bash-completion/completions

$(BUILD)/pageblock.pc: tools/pageblock.pc.in Makefile FORCE
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
	  -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(VERSION)|' $< >$@

.PHONY: FORCE
FORCE:

install: all $(BUILD)/pageblock.pc
	install -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(LIBDIR)/pkgconfig' \
	  '$(DESTDIR)$(INCLUDEDIR)' '$(DESTDIR)$(MANDIR)/man1' \
	  '$(DESTDIR)$(MANDIR)/man3' '$(DESTDIR)$(MANDIR)/man7'
	install -m 755 $(BUILD)/pageblock '$(DESTDIR)$(BINDIR)/pageblock'
	install -m 755 $(BUILD)/libpageblock.so '$(DESTDIR)$(LIBDIR)/libpageblock.so'
	install -m 755 $(BUILD)/libpageblock-record.so \
	  '$(DESTDIR)$(LIBDIR)/libpageblock-record.so'
	install -m 644 $(BUILD)/pageblock.pc '$(DESTDIR)$(LIBDIR)/pkgconfig/pageblock.pc'
	install -m 644 preload/pageblock.h '$(DESTDIR)$(INCLUDEDIR)/pageblock.h'
	install -m 644 doc/man/pageblock.1 '$(DESTDIR)$(MANDIR)/man1/pageblock.1'
	install -m 644 doc/man/pageblock.3 '$(DESTDIR)$(MANDIR)/man3/pageblock.3'
	install -m 644 doc/man/pageblock.7 '$(DESTDIR)$(MANDIR)/man7/pageblock.7'
	install -d '$(DESTDIR)$(MANDIR)/man5'
	install -m 644 doc/man/pageblock-trace.5 '$(DESTDIR)$(MANDIR)/man5/pageblock-trace.5'
	install -d '$(DESTDIR)$(COMPLETIONSDIR)'
	$(BUILD)/pageblock completion bash >'$(DESTDIR)$(COMPLETIONSDIR)/pageblock'

uninstall:
	rm -f '$(DESTDIR)$(MANDIR)/man5/pageblock-trace.5' '$(DESTDIR)$(BINDIR)/pageblock' '$(DESTDIR)$(LIBDIR)/libpageblock.so' \
	  '$(DESTDIR)$(LIBDIR)/libpageblock-record.so' \
	  '$(DESTDIR)$(LIBDIR)/pkgconfig/pageblock.pc' '$(DESTDIR)$(INCLUDEDIR)/pageblock.h' \
	  '$(DESTDIR)$(MANDIR)/man1/pageblock.1' '$(DESTDIR)$(MANDIR)/man3/pageblock.3' \
	  '$(DESTDIR)$(MANDIR)/man7/pageblock.7' \
	  '$(DESTDIR)$(COMPLETIONSDIR)/pageblock'
