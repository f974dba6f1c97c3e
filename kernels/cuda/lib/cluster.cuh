/* SPDX-License-Identifier: Apache-2.0 */
/* Thread block clusters: blocks of one GPC that reach each other's shared
 * memory.  Before sm_90, and in a launch without clusters, a cluster is one
 * block. */
#ifndef FLI_CUDA_CLUSTER_CUH
#define FLI_CUDA_CLUSTER_CUH

#include "cuda/lib/base.cuh"

DEVICE int32_t cluster_rank(void)
{
    uint32_t rank = 0;

#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
    return (int32_t)rank;
}

DEVICE int32_t cluster_size(void)
{
    uint32_t size = 1;

#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
#endif
    return (int32_t)size;
}

/* Where block rank has what this block has at shared. */
DEVICE void *cluster_peer(void *shared, int32_t rank)
{
#if __CUDA_ARCH__ >= 900
    asm("mapa.u64 %0, %0, %1;" : "+l"(shared) : "r"(rank));
#endif
    return shared;
}

/* The two halves of a barrier of all threads of the cluster; each warp comes as
 * one. */
DEVICE void cluster_arrive(void)
{
#if __CUDA_ARCH__ >= 900
    __syncwarp();
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

DEVICE void cluster_wait(void)
{
#if __CUDA_ARCH__ >= 900
    __syncwarp();
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

DEVICE void cluster_sync(int32_t size)
{
    if (size == 1) {
        __syncthreads();
    } else {
        cluster_arrive();
        cluster_wait();
    }
}

#endif
