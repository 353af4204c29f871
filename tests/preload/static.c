/* Linked statically, to see that `pageblock run` says so. */
int main(void)
{
	return 0;
}
