// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Vm} from "forge-std/Test.sol";

import {SwarmRegistry} from "../src/SwarmRegistry.sol";
import {StakedSwarmTest, SwarmTest} from "./SwarmTest.sol";

/// @dev What each action costs as a transaction of its own, calldata included; kept in snapshots/, and every run is compared with them.
contract GasTest is SwarmTest {
    uint256 private constant PROOF_LENGTH = 10; // of a tree of 1024 accounts

    function test_founding() public {
        deploy(terms());
        vm.snapshotGasLastCall("deploy");
    }

    function test_identity() public {
        peers(2); // the first ones open storage that all later ones share
        Vm.Wallet memory peer = key(1);
        register(peer);
        vm.snapshotGasLastCall("register");

        Vm.Wallet memory relayed = key(2);
        bytes memory signature = sign(relayed, registrationHash(relayed, 0, GENESIS));
        registry.registerFor(bytes32(relayed.publicKeyX), bytes32(relayed.publicKeyY), GENESIS, signature);
        vm.snapshotGasLastCall("registerFor");

        Vm.Wallet memory owner = key(3);
        bytes32 structHash = linkHash(peer.addr, owner.addr, 0, GENESIS);
        registry.linkOwner(peer.addr, owner.addr, GENESIS, sign(peer, structHash), sign(owner, structHash));
        vm.snapshotGasLastCall("linkOwner");

        rotate(peer.addr, key(4));
        vm.snapshotGasLastCall("rotateKey");

        vm.warp(startOf(1));
        vm.prank(relayed.addr);
        registry.checkIn();
        vm.snapshotGasLastCall("checkIn");
    }

    function test_settlement() public {
        measurePost(4, "postSettlement, 4 active peers");
        measurePost(10, "postSettlement, 10 active peers");
        measurePost(100, "postSettlement, 100 active peers");
        measurePost(1000, "postSettlement, 1000 active peers");
    }

    function test_claims() public {
        Vm.Wallet[] memory wallets = peers(4);
        fund(1e30);
        for (uint64 epoch = 0; epoch < 2; ++epoch) {
            uint256 points = (epoch + 1) * POINT;
            (bytes32 root, bytes32[] memory proof) = deepProof(leafOf(wallets[0].addr, points));
            vm.warp(startOf(epoch + 1));
            post(wallets, epoch, root, 100 * POINT);
            skip(CHALLENGE);
            registry.claim(epoch, wallets[0].addr, points, proof);
            vm.snapshotGasLastCall(epoch == 0 ? "claim, the first of an account" : "claim, a later one");
        }
    }

    function measurePost(uint256 count, string memory name) private {
        registry = deploy(terms());
        vm.warp(GENESIS);
        Vm.Wallet[] memory wallets = peers(count);
        vm.warp(startOf(1));
        post(wallets, 0, "first", 1);
        vm.warp(startOf(2));
        post(wallets, 1, "second", 2);
        vm.snapshotGasLastCall(name);
    }

    function deepProof(bytes32 leaf) private pure returns (bytes32 root, bytes32[] memory proof) {
        proof = new bytes32[](PROOF_LENGTH);
        root = leaf;
        for (uint256 i = 0; i < PROOF_LENGTH; ++i) {
            proof[i] = keccak256(abi.encode("sibling", i));
            root = pairHash(root, proof[i]);
        }
    }
}

contract StakedGasTest is StakedSwarmTest {
    function test_stakes() public {
        Vm.Wallet[] memory wallets = stakedPeers(4);
        stakeToken.mint(address(this), 1);
        stakeToken.approve(address(registry), 1);
        registry.stake(wallets[3].addr, 1);
        vm.snapshotGasLastCall("stake");
        vm.prank(wallets[3].addr);
        registry.requestUnstake(wallets[3].addr);
        vm.snapshotGasLastCall("requestUnstake");
        skip(UNBONDING);
        registry.withdrawStake(wallets[3].addr);
        vm.snapshotGasLastCall("withdrawStake");
        registry.slashSettlement(0, attestation(wallets[0], 0, "root", 1), attestation(wallets[0], 0, "other root", 1));
        vm.snapshotGasLastCall("slashSettlement");
    }
}
