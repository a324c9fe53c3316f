/* DPDK's mempool, whose calls are inline functions of C. */

#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>

/* An object only stands for a page: the pool moves pointers and never looks at them. */
#define OBJECT_BYTES 64
/* As testpmd asks for, and the most that a per-core cache may hold. */
#define CACHE_OBJECTS 512

int peers_dpdk_start(void)
{
	char *args[] = { "pagemill-peers", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry",
			 "--log-level=error", "--lcores=0", "-m", "512" };

	return rte_eal_init(sizeof(args) / sizeof(args[0]), args) < 0 ? rte_errno : 0;
}

/* Gives the calling thread a cache of its own in each pool. */
int peers_dpdk_join(void)
{
	return rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() < 0 ? rte_errno : 0;
}

struct rte_mempool *peers_dpdk_pool(const char *name, unsigned int nr)
{
	return rte_mempool_create(name, nr, OBJECT_BYTES, CACHE_OBJECTS, 0, NULL, NULL, NULL, NULL,
				  SOCKET_ID_ANY, 0);
}

/* All of them or none. */
unsigned int peers_dpdk_get_bulk(struct rte_mempool *pool, void **objects, unsigned int nr)
{
	return rte_mempool_get_bulk(pool, objects, nr) == 0 ? nr : 0;
}

void peers_dpdk_put_bulk(struct rte_mempool *pool, void **objects, unsigned int nr)
{
	rte_mempool_put_bulk(pool, objects, nr);
}

unsigned int peers_dpdk_get_each(struct rte_mempool *pool, void **objects, unsigned int nr)
{
	unsigned int got = 0;

	while (got < nr && rte_mempool_get(pool, &objects[got]) == 0)
		got++;
	return got;
}

void peers_dpdk_put_each(struct rte_mempool *pool, void **objects, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		rte_mempool_put(pool, objects[i]);
}
