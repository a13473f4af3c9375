"""The stub in LD_LIBRARY_PATH in; what NVIDIA's own Python binding and nvitop read through it out, as JSON.

The binding is generated from NVIDIA's header, so it checks structures, their versions and the codes.
"""

import json

import nvitop
import pynvml as nvml


def field(gpu, number, scope=None):
    value = nvml.nvmlDeviceGetFieldValues(gpu, [number if scope is None else (number, scope)])[0]
    if value.nvmlReturn != nvml.NVML_SUCCESS:
        return None
    return value.value.uiVal if value.valueType == nvml.NVML_VALUE_TYPE_UNSIGNED_INT else value.value.ullVal


def activity(gpu):
    samples = [nvml.nvmlGpmSampleAlloc() for _ in range(2)]
    for sample in samples:
        nvml.nvmlGpmSampleGet(gpu, sample)
    request = nvml.c_nvmlGpmMetricsGet_t()
    request.version, request.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, 2
    request.sample1, request.sample2 = samples
    request.metrics[0].metricId = nvml.NVML_GPM_METRIC_SM_UTIL
    request.metrics[1].metricId = nvml.NVML_GPM_METRIC_DRAM_BW_UTIL
    nvml.nvmlGpmMetricsGet(request)
    values = [request.metrics[place].value for place in range(2)]
    for sample in samples:
        nvml.nvmlGpmSampleFree(sample)
    return values


def xid(gpu):
    events = nvml.nvmlEventSetCreate()
    nvml.nvmlDeviceRegisterEvents(gpu, nvml.nvmlEventTypeXidCriticalError, events)
    event = nvml.nvmlEventSetWait_v2(events, 1000)
    nvml.nvmlEventSetFree(events)
    return event.eventData


def by_binding(gpu):
    memory = nvml.nvmlDeviceGetMemoryInfo(gpu, version=nvml.nvmlMemory_v2)
    rates = nvml.nvmlDeviceGetUtilizationRates(gpu)
    busy = nvml.nvmlDeviceGetProcessUtilization(gpu, 0)[0]
    process = nvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)[0]
    clocks = [nvml.NVML_CLOCK_GRAPHICS, nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM, nvml.NVML_CLOCK_VIDEO]
    kinds = [nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED]
    return {
        "uuid": nvml.nvmlDeviceGetUUID(gpu),
        "name": nvml.nvmlDeviceGetName(gpu),
        "pci_bus_id": nvml.nvmlDeviceGetPciInfo_v3(gpu).busId,
        "serial": nvml.nvmlDeviceGetSerial(gpu),
        "vbios": nvml.nvmlDeviceGetVbiosVersion(gpu),
        "memory": [memory.total, memory.used, memory.reserved],
        "utilization": [rates.gpu, rates.memory],
        "power": [nvml.nvmlDeviceGetPowerUsage(gpu), field(gpu, 186), field(gpu, 185)],
        "energy": [nvml.nvmlDeviceGetTotalEnergyConsumption(gpu), field(gpu, 83)],
        "limit": nvml.nvmlDeviceGetEnforcedPowerLimit(gpu),
        "temperature": [nvml.nvmlDeviceGetTemperatureV(gpu, nvml.NVML_TEMPERATURE_GPU), field(gpu, 82)],
        "clocks": [nvml.nvmlDeviceGetClockInfo(gpu, clock) for clock in clocks],
        "reasons": nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu),
        "held_down": [field(gpu, number) for number in (74, 76, 269, 270, 271)],
        "nvlink": [field(gpu, number, 0xFFFFFFFF) for number in (138, 139)],
        "ecc": [nvml.nvmlDeviceGetTotalEccErrors(gpu, kind, life) for life in (0, 1) for kind in kinds],
        "process": [process.pid, process.usedGpuMemory],
        "process_percent": [busy.smUtil, busy.memUtil, busy.encUtil, busy.decUtil],
        "activity": activity(gpu),
        "xid": xid(gpu),
    }


def parts(gpu):
    found = []
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place)
        except nvml.NVMLError_NotFound:
            continue
        ids = [nvml.nvmlDeviceGetGpuInstanceId(part), nvml.nvmlDeviceGetComputeInstanceId(part)]
        found.append([ids, nvml.nvmlDeviceGetUUID(part), nvml.nvmlDeviceGetMemoryInfo(part).total])
    return found


def by_nvitop(gpu):
    pids = sorted(gpu.processes())
    return {"memory": gpu.memory_total(), "power": gpu.power_usage(), "sm_clock": gpu.clock_infos().sm, "pids": pids}


nvml.nvmlInit()
handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
read = {"driver": nvml.nvmlSystemGetDriverVersion(), "binding": by_binding(handles[0]), "parts": parts(handles[1])}
read["nvitop"] = by_nvitop(nvitop.PhysicalDevice(0))
nvml.nvmlShutdown()
print(json.dumps(read))
