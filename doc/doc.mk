# Documents: the manual pages must format without a warning.

MAN_PAGES := $(wildcard doc/man/*.[1-9])

.PHONY: check-man
check-man:
	@test -n '$(MAN_PAGES)'
	@set -e; for page in $(MAN_PAGES); do \
	  warnings=$$(groff -man -Tutf8 -ww -z $$page 2>&1); \
	  test -z "$$warnings" || { echo "$$warnings" >&2; exit 1; }; \
	done; echo 'man: $(words $(MAN_PAGES)) passed, 0 failed, 0 skipped'
