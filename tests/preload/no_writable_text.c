/*
 * no_writable_text PROGRAM [ARGUMENT...]: runs a program under the kernel's rule that what
 * was not executable may not become so and text may not become writable (PR_SET_MDWE), as
 * hardened services have it.
 */
#include "tests/preload/test.h"

#include <sys/prctl.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

int main(int argc, char **argv)
{
	EXPECT(argc >= 2);
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0)
		skip("this kernel has no PR_SET_MDWE");
	execvp(argv[1], argv + 1);
	return 1;
}
